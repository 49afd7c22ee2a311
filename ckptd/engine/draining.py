"""Empties the node of what is exposed, most valuable first, because it is about to end: a stop, a drained node, a spot notice."""

from __future__ import annotations

from collections.abc import Iterable

from ckptd.domain.names import CheckpointId
from ckptd.engine import reporting
from ckptd.engine.context import Context
from ckptd.engine.flushing import Flushing
from ckptd.engine.operations import Progress
from ckptd.engine.reconciler import Reconciler, View
from ckptd.engine.unit import Unit

_NAMED = 3
"""Runs that the report names; the rest is counted."""


class Draining:
    def __init__(self, context: Context, reconciler: Reconciler, flushing: Flushing) -> None:
        self._context = context
        self._reconciler = reconciler
        self._flushing = flushing

    async def drain(self, progress: Progress) -> None:
        """Returns when nothing is exposed. Nothing is refused meanwhile: what jobs go on to save is drained too."""
        context = self._context
        context.draining += 1
        try:
            await context.catch_up()
            self._make_way(await self._reconciler.look())
            await self._flushing.flush(progress, lambda: report(self._reconciler.view, context.clock()))
        finally:
            context.draining -= 1
            context.wake()

    def _make_way(self, view: View) -> None:
        """Stops uploads of lesser worth where a newest checkpoint waits; they go on later where they were."""
        newest = newest_of_runs(view.units)
        if not any(unit.exposed for unit in newest):
            return
        first = {row.id for unit in newest for row in unit.rows}
        for file, work in list(self._context.files.items()):
            if work.uploading and file not in first:
                self._context.cancel_file(file)


def newest_of_runs(units: Iterable[Unit]) -> list[Unit]:
    """What `latest` names, of each run that has one here."""
    # Each run's stand by step, after what is superseded: the newest comes last.
    found = {(unit.volume, unit.run): unit for unit in units if unit.restorable}
    return [unit for unit in found.values() if unit.rows]


def report(view: View, now: float) -> str:
    """`newest checkpoint durable of 2 of 3 runs; exposed: 12 files, 3221225472 bytes, most of it run-42@1200`."""
    newest = newest_of_runs(view.units)
    safe = sum(not unit.exposed for unit in newest)
    text = f"newest checkpoint durable of {safe} of {len(newest)} runs"
    left = reporting.exposure(view, now)
    if not left.files:
        return f"{text}; nothing is exposed"
    missing = [str(CheckpointId(unit.run, unit.step)) for unit in newest if unit.exposed]
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    named = f", not: {', '.join(missing[:_NAMED])}{more}" if missing else ""
    return f"{text}{named}; exposed: {left.bytes} bytes in {left.files} files"
