"""Short spellings for snapshots, so that a test shows only what matters to it."""

from __future__ import annotations

import itertools
from dataclasses import replace

from ckptd.domain.model import CheckpointState, Place
from ckptd.policy.actions import Action
from ckptd.policy.plan import plan
from ckptd.policy.policy import Policy
from ckptd.policy.snapshot import FileView, Snapshot, TierView, UnitView

RAM, NVME, REMOTE = Place.RAM, Place.NVME, Place.REMOTE
WRITING, COMPLETE, COMMITTED, TORN, LOST = CheckpointState
NOW = 1000.0

_ids = itertools.count(1)


def file(*copies: Place, size: int = 10, closed_at: float = 100.0, settled: bool = True, **more) -> FileView:
    return FileView(more.pop("id", next(_ids)), size, 1, settled, frozenset(copies), closed_at=closed_at, **more)


def unit(step: int | None, state: CheckpointState, *files: FileView, policy: Policy | None = None, **more) -> UnitView:
    more = {"volume": "v", "run": "r", **more}
    if state is COMMITTED:
        more = {"manifest": True, "manifest_current": True, "upload_begun": True, **more}
    return UnitView(step=step, state=state, files=files, policy=policy or Policy(), **more)


def committed(step: int, *copies: Place, **more) -> UnitView:
    size = more.pop("size", 10)
    return unit(step, COMMITTED, file(*copies, REMOTE, size=size, closed_at=100.0 + step), **more)


def tiers(ram: int = 1000, nvme: int | None = 1000, **more) -> tuple[TierView, ...]:
    """Budgets; use is what the units of `planned` weigh."""
    found = [TierView(RAM, ram, 0, more.get("ram_reserve", 0))]
    if nvme is not None:
        found.append(TierView(NVME, nvme, 0, more.get("nvme_reserve", 0)))
    return tuple(found)


def planned(*units: UnitView, room: tuple[TierView, ...] | None = None, now: float = NOW) -> tuple[Action, ...]:
    counted = tuple(
        replace(tier, used=tier.used + sum(f.size for u in units for f in u.files if tier.place in f.copies))
        for tier in (tiers() if room is None else room)
    )
    return plan(Snapshot(units, counted), now)
