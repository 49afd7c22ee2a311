"""Whether the node has anything to do, for work that is to come after everybody else's."""

from __future__ import annotations

from ckptd.domain.model import CheckpointState
from ckptd.engine.context import Context
from ckptd.engine.reconciler import Reconciler
from ckptd.engine.snapshot import used_bytes
from ckptd.engine.volume import Tier


class Idleness:
    def __init__(self, context: Context, reconciler: Reconciler) -> None:
        self._context = context
        self._reconciler = reconciler

    def busy(self) -> bool:
        """Something is sent, fetched, moved or saved."""
        context = self._context
        if any(work.uploading or work.moving_to is not None for work in context.files.values()):
            return True
        if context.transfers.report().queued_bytes:
            return True
        writing = (
            unit
            for unit in self._reconciler.view.units
            if unit.state is CheckpointState.WRITING and unit.step is not None
        )
        return any(not row.closed for unit in writing for row in unit.rows)

    def tier_with_room(self, size: int) -> Tier | None:
        """The fastest that stays within its budget."""
        units = self._reconciler.view.units
        for place, tier in self._context.tiers.items():
            if used_bytes(self._context, units, place) + size <= tier.effective:
                return tier
        return None
