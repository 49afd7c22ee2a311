"""Takes the checksums that are still missing: of files that are not durable yet."""

from __future__ import annotations

from ckptd.domain.errors import NotKnown, SourceChanged
from ckptd.domain.names import CheckpointId
from ckptd.engine.context import Context
from ckptd.engine.operations import Progress
from ckptd.engine.reconciler import Reconciler


class Checksumming:
    def __init__(self, context: Context, reconciler: Reconciler) -> None:
        self._context = context
        self._reconciler = reconciler

    async def checksum(self, progress: Progress) -> None:
        """Raises NotKnown, SourceChanged for a file that is being written."""
        operation = progress.operation
        target = CheckpointId.parse(operation.target)
        unit = (await self._reconciler.look()).unit(operation.volume, target.run, target.step)
        if unit is None:
            raise NotKnown(f"there is no checkpoint {target}", hint="see: ckptctl ls")
        rows = [row for row in unit.rows if row.link is None and row.checksums is None]
        if any(not row.closed for row in rows):
            raise SourceChanged(f"{target} is being written", hint="try again when it is complete")
        progress.total = sum(row.size for row in rows)
        for row in rows:
            if (copy := row.local()) is not None:
                sums = await self._context.transfers.checksum(copy.location, row.stamp(copy))
                await self._context.catalog.files.set_checksums(row.id, row.generation, sums)
            progress.add(row.size)
        progress.result = f"{target}: {len(rows)} checksums taken"
        self._context.wake()
