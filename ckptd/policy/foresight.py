"""What a policy would let go if nothing else happened: the plan, carried out on the snapshot until it asks for no more.

One plan is not enough to know it: what is evicted by one is pruned by the next. Pure; uploads and commits are left out, since
what they would make possible is not there yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ckptd.domain.model import TIERS, Place
from ckptd.policy.actions import Abandon, Action, Demote, Evict, Promote, Prune
from ckptd.policy.plan import plan
from ckptd.policy.snapshot import FileView, Snapshot, TierView, UnitView

UnitKey = tuple[str, str, int | None]

_ROUNDS = 50
"""A plan's moves make room for the next one's; more rounds than this change nothing worth knowing."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What happens to one checkpoint, or to a run's loose files."""

    unit: UnitKey
    actions: tuple[str, ...]
    """`demote`, `evict`, `abandon`, `prune`, in the order in which they come."""
    freed: Mapping[Place, int]
    """Bytes in each tier; negative where something comes in. Not of the remote: cold files are unknown here."""


def foresee(snapshot: Snapshot, now: float) -> tuple[Foreseen, ...]:
    """By unit, in the order in which they are first touched."""
    units = {(unit.volume, unit.run, unit.step): unit for unit in snapshot.units}
    owner = {file.id: key for key, unit in units.items() for file in unit.files}
    before = {key: _occupied(unit) for key, unit in units.items()}
    done: dict[UnitKey, list[str]] = {}
    for _ in range(_ROUNDS):
        current = Snapshot(tuple(units.values()), _tiers(snapshot, before, units.values()), snapshot.user_budget)
        actions = [a for a in plan(current, now) if isinstance(a, Demote | Evict | Promote | Abandon | Prune)]
        if not actions:
            break
        orders: dict[UnitKey, list[Action]] = {}
        for action in actions:
            key = owner[action.file] if isinstance(action, Demote | Evict | Promote) else _key(action)
            if not isinstance(action, Promote):
                kind = type(action).__name__.lower()
                if kind not in done.setdefault(key, []):
                    done[key].append(kind)
            orders.setdefault(key, []).append(action)
        for key, its in orders.items():
            _carry_out(its, key, units)
    return tuple(
        Foreseen(key, tuple(kinds), {p: before[key][p] - _occupied(units.get(key))[p] for p in TIERS})
        for key, kinds in done.items()
    )


def _key(action: Abandon | Prune) -> UnitKey:
    return action.volume, action.run, action.step


def _occupied(unit: UnitView | None) -> dict[Place, int]:
    files = () if unit is None else unit.files
    return {place: sum(file.size for file in files if place in file.copies) for place in TIERS}


def _tiers(
    snapshot: Snapshot, before: Mapping[UnitKey, Mapping[Place, int]], units: Iterable[UnitView]
) -> tuple[TierView, ...]:
    held = [_occupied(unit) for unit in units]
    changed = {place: sum(one[place] for one in held) - sum(one[place] for one in before.values()) for place in TIERS}
    return tuple(replace(tier, used=tier.used + changed[tier.place]) for tier in snapshot.tiers)


def _carry_out(orders: Sequence[Action], key: UnitKey, units: dict[UnitKey, UnitView]) -> None:
    """What one plan asks for one unit: at most one action a file."""
    if any(isinstance(action, Abandon | Prune) for action in orders):
        del units[key]
        return
    moves = {action.file: action for action in orders if isinstance(action, Demote | Evict | Promote)}
    files = tuple(_moved(file, moves.get(file.id)) for file in units[key].files)
    units[key] = replace(units[key], files=files)


def _moved(file: FileView, action: Demote | Evict | Promote | None) -> FileView:
    match action:
        case Demote():
            return replace(file, copies=file.copies - {Place.RAM} | {Place.NVME})
        case Promote():
            return replace(file, copies=file.copies | {Place.RAM})
        case Evict():
            return replace(file, copies=file.copies - set(TIERS))
        case None:
            return file
