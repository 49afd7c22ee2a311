"""Tells when a tier is beyond its budget and nothing of it may leave: the next save may meet `ENOSPC`."""

from __future__ import annotations

from collections import Counter

from ckptd.domain.model import Place
from ckptd.engine.context import Context
from ckptd.policy.snapshot import Snapshot, TierView
from ckptd.settings.quantities import format_size

PATIENCE_S = 5.0
"""Being beyond it for a moment is everyday: the job writes, then older files move."""
_NAMED = 3


class Fullness:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._stuck_since: dict[Place, float] = {}
        self._told: set[Place] = set()

    async def look(self, seen: Snapshot) -> None:
        """After a plan was begun: whether it relieves a tier that is too full."""
        works = any(work.leaving or work.moving_to for work in self._context.files.values())
        now = self._context.clock()
        for tier in seen.tiers:
            if tier.used <= tier.budget:
                self._stuck_since.pop(tier.place, None)
                self._told.discard(tier.place)
            elif works:
                self._stuck_since.pop(tier.place, None)
            elif now - self._stuck_since.setdefault(tier.place, now) >= PATIENCE_S and tier.place not in self._told:
                self._told.add(tier.place)
                await self._tell(tier, seen)

    async def _tell(self, tier: TierView, seen: Snapshot) -> None:
        exposed, pinned, runs = 0, 0, Counter[str]()
        for unit in seen.units:
            for file in unit.files:
                if tier.place in file.copies:
                    runs[unit.run] += file.size
                    exposed += 0 if Place.REMOTE in file.copies else file.size
                    pinned += file.size if unit.pinned else 0
        holders = ", ".join(f"{run} {format_size(size)}" for run, size in runs.most_common(_NAMED))
        await self._context.event(
            "warning",
            "tier.full",
            f"the {tier.place} tier holds {format_size(tier.used)} of {format_size(tier.budget)} and nothing of it may leave: "
            f"{format_size(exposed)} are not durable, {format_size(pinned)} pinned; most is held by {holders}",
            tier=tier.place,
            hint="is the remote reachable (ckptctl status)? else raise the tier's budget, or unpin or rm checkpoints",
        )
