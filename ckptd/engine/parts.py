"""A checkpoint that several nodes write, as one of them sees it: what of it is this node's, and how its part stands.

Fills in units while they are assembled. Decisions are in `several`; here rows and manifests become what is decided about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ckptd.catalog import FileRow
from ckptd.domain.model import CheckpointState
from ckptd.engine.matching import differs, matches
from ckptd.engine.several import Before, Situation, given_up_at, part_of
from ckptd.engine.unit import Unit
from ckptd.layouts import Member, judge, locate, names_of
from ckptd.manifest import Manifest, ManifestEntry
from ckptd.policy.policy import Policy

_LIGHT = (
    ".json",
    ".jsonl",
    ".txt",
    ".md",
    ".yaml",
    ".yml",
    ".toml",
    ".jinja",
    ".log",
    ".csv",
    ".py",
    ".cfg",
    ".metadata",
)
"""Written by every node alike, or once more after the rest: another content of one of these is no other attempt."""
_STEP_S = 0.001
"""Manifests carry milliseconds."""


def divide(unit: Unit, members: Sequence[Member], policy: Policy, now: float, node: str) -> None:
    """`members` begin with those of the unit's rows, in their order."""
    committed = unit.committed
    unit.mine = tuple(unit.rows)
    if committed is not None and not committed.several and unit.manifest_current:
        return
    fitting: Mapping[str, Manifest] = {} if committed is None else committed.fitting
    others = {name: manifest for name, manifest in fitting.items() if name != node}
    told = any(manifest.nodes != 1 for manifest in fitting.values())
    own = _by_path([fitting[node]]) if node in fitting else {}
    mine, aside, rewrites = _divided(unit.rows, own, _by_path(others.values()))
    kept = {row.id for row in mine}
    situation = Situation(
        here=node,
        mine=[member for row, member in zip(unit.rows, members, strict=False) if row.id in kept],
        others={} if rewrites else others,
        committed=node in fitting and not rewrites and all(matches(row, own.get(row.path)) for row in _lasting(mine)),
        asked=policy.nodes,
        launch=unit.launch,
        before=unit.before,
    )
    unit.part = part_of(situation, now=now, settle_s=policy.settle_s)
    if unit.part is not None or told:
        unit.mine, unit.aside, unit.rewrites = tuple(mine), frozenset(aside), rewrites
        unit.part_committed = situation.committed
        entries = {} if committed is None else committed.entries()
        unit.manifest_current = not rewrites and all(
            row.id in unit.aside or matches(row, entries.get(row.path)) for row in _lasting(unit.rows)
        )
    unit.withdrawn = committed is None and _withdrawn(unit, node)


def _by_path(manifests: Iterable[Manifest]) -> dict[str, ManifestEntry]:
    return {entry.path: entry for manifest in manifests for entry in manifest.entries}


def _divided(
    rows: Sequence[FileRow], own: Mapping[str, ManifestEntry], theirs: Mapping[str, ManifestEntry]
) -> tuple[list[FileRow], set[int], bool]:
    """What this node wrote; rows put aside because another node's content counts; whether the step is written anew."""
    mine: list[FileRow] = []
    aside: set[int] = set()
    rewrites = False
    for row in rows:
        entry = theirs.get(row.path)
        if entry is None:
            mine.append(row)
            before = own.get(row.path)
            rewrites = rewrites or (before is not None and _heavy(row.path) and not matches(row, before))
            continue
        other = differs(row, entry)
        if other and _heavy(row.path):
            mine.append(row)
            rewrites = True
        elif other is None or other:
            aside.add(row.id)
    return mine, aside, rewrites


def _heavy(path: str) -> bool:
    return not path.lower().endswith(_LIGHT)


def _lasting(rows: Sequence[FileRow]) -> list[FileRow]:
    return [row for row in rows if not locate(row.path).temporary]


def _withdrawn(unit: Unit, node: str) -> bool:
    went = unit.went.get(node)
    own = _own_written_at(unit)
    return went is not None and not went.ours and own is not None and went.written_at >= own - _STEP_S


def _own_written_at(unit: Unit) -> float | None:
    return max((row.changed_at for row in unit.mine), default=None)


def is_part(unit: Unit) -> bool:
    """Whether `judge_part` knows its state, and not the rules for one node."""
    told = unit.committed is not None and any(manifest.nodes != 1 for manifest in unit.committed.fitting.values())
    return unit.part is not None or (told and not unit.mine) or (unit.withdrawn and len(unit.went) > 1)


def adds_only(unit: Unit, node: str) -> bool:
    """What lies here only adds to the manifests of other nodes, or is described by this node's as it is: none of them has to go
    before this node commits.
    """
    if unit.part is None or unit.rewrites or unit.committed is None:
        return False
    return unit.part_committed or node not in unit.committed.by_node


def judge_part(unit: Unit, members: Sequence[Member], now: float, settle_s: float, node: str) -> None:
    """Fills in state and reason of a checkpoint that is not whole."""
    said = judge(members, now=now, settle_s=settle_s, previous=None)
    unit.framework, unit.root = said.framework, said.root
    unit.state, unit.wake_at = CheckpointState.WRITING, None if unit.part is None else unit.part.wake_at
    written_at = _own_written_at(unit)
    anew = None if unit.committed is None or written_at is None else unit.committed.replaced_by(node, written_at)
    if anew is not None and unit.mine:
        unit.state, unit.part = CheckpointState.TORN, None
        unit.reason = (
            f"node {anew} committed this step anew, what lies here is older: "
            f"ckptctl rm {unit.run}@{unit.step}, then prefetch"
        )
    elif unit.withdrawn:
        unit.state, unit.part = CheckpointState.TORN, None
        unit.reason = "another node took its manifests away: it was removed, or is being written anew there"
    elif unit.part is not None:
        unit.reason = unit.part.reason
    elif unit.committed is not None:
        have, expected = len(unit.committed.fitting), unit.committed.expected
        count = (
            f"{have} of {expected} nodes committed" if expected else f"{have} committed, of an unknown number of nodes"
        )
        lacks = f" ({unit.committed.lacking})" if unit.committed.lacking else ""
        absent = sorted(unit.before.nodes - unit.committed.fitting.keys()) if unit.before else []
        unit.reason = f"{count}: waits for {', '.join(absent[:3]) or 'other nodes'}{lacks}"


def before_of(unit: Unit, node: str) -> Before | None:
    """For the run's next checkpoint."""
    if unit.committed is None or not unit.committed.several:
        return None
    if unit.as_before is None:
        own = unit.committed.fitting.get(node)
        names = names_of([Member(entry.path, True, None, 0.0) for entry in own.entries]) if own else frozenset()
        unit.as_before = Before(frozenset(unit.committed.fitting), names)
    return unit.as_before


def give_up(unit: Unit, policy: Policy, now: float) -> None:
    """A part that nobody completes any more: a later step is whole, and nothing has happened to this one for long."""
    if unit.given_up is not None and not unit.outlived:  # the later step is not whole any more, or gone
        unit.state, unit.reason, unit.given_up = CheckpointState.WRITING, unit.given_up, None
    waits = unit.state is CheckpointState.WRITING and is_part(unit) and (unit.part is None or unit.part.ready)
    if not waits or not unit.outlived:
        return
    since = max(
        [row.changed_at for row in unit.mine]
        + ([] if unit.committed is None else [unit.committed.committed_at])
    )  # fmt: skip
    due = given_up_at(since, policy.settle_s)
    if now >= due:
        unit.given_up = unit.reason
        unit.state, unit.reason, unit.wake_at = (
            CheckpointState.TORN,
            f"given up, a later step is whole: {unit.reason}",
            None,
        )
    else:
        unit.wake_at = due if unit.wake_at is None else min(due, unit.wake_at)
