"""Reads every byte of the copies against the checksums; what is bad is put aside and replaced from a good copy."""

from __future__ import annotations

from collections.abc import Sequence

from ckptd.catalog import FileRow
from ckptd.domain.errors import CkptdError, IntegrityError, NotKnown, SourceChanged
from ckptd.domain.model import Checksums, Place
from ckptd.domain.names import CheckpointId, key_of
from ckptd.engine.context import Context
from ckptd.engine.mending import Mending, Suspect, absent
from ckptd.engine.operations import Progress
from ckptd.engine.prefetching import Choosing
from ckptd.engine.replacing import Replacing
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume
from ckptd.transfer.side_by_side import side_by_side

_FILES_AT_A_TIME = 4
"""Local files; a large one is read by all threads there are."""
_OBJECTS_AT_A_TIME = 16


class Verifying:
    def __init__(self, context: Context, choosing: Choosing, replacing: Replacing, mending: Mending) -> None:
        self._context = context
        self._choosing = choosing
        self._replacing = replacing
        self._mending = mending

    async def verify(self, progress: Progress) -> None:
        """Raises IntegrityError naming what is bad (and what was done about it), RemoteError."""
        operation = progress.operation
        volume = self._context.volume(operation.volume)
        far = "remote" in operation.arguments
        unit = await self._choosing.restorable(volume, CheckpointId.parse(operation.target), must=far)
        rows = [row for row in unit.rows if row.link is None]
        progress.total = sum(row.size for row in rows if row.local()) + (unit.durable_bytes if far else 0)
        checked = [row for row in rows if row.local() is not None and row.checksums is not None]
        bad = await self._here(volume, checked, progress)
        if far:
            bad += await self._remote(volume, unit, progress)
        if bad:
            raise IntegrityError(f"{len(bad)} bad: " + "; ".join(bad), hint="see: ckptctl events")
        here = sum(row.local() is not None for row in rows)
        if not here and not far:
            raise NotKnown(
                f"{unit.run}@{unit.step} has no copy on this node: nothing was read",
                hint="ckptctl verify --remote reads the remote's copies",
            )
        # Those are on their way to the remote: their checksum is taken there.
        note = f", {here - len(checked)} have no checksum yet" if here > len(checked) else ""
        where = f"{here} of {unit.files} files here" + (" and all in the remote" if far else "")
        progress.result = f"{unit.run}@{unit.step}: {where}, all good{note}"

    async def _here(self, volume: Volume, rows: Sequence[FileRow], progress: Progress) -> list[str]:
        bad: list[tuple[FileRow, Place]] = []

        async def look(row: FileRow) -> None:
            copy = row.local()
            if copy is None or row.checksums is None:
                return
            try:
                await self._context.transfers.verify_local(copy.location, row.stamp(copy), row.checksums, progress.add)
            except SourceChanged:
                return  # it is being written: no copy of this content is claimed any more
            except IntegrityError:
                bad.append((row, copy.place))

        await side_by_side(rows, look, _FILES_AT_A_TIME)
        found = []
        for row, place in bad:
            outcome = await self._replacing.replace(volume, row, place)
            if outcome.bad:
                found.append(f"{key_of(row.path)} in {place}: {outcome.done}")
        return found

    async def _remote(self, volume: Volume, unit: Unit, progress: Progress) -> list[str]:
        suspects: list[Suspect] = []

        async def look(expected: tuple[str, Checksums]) -> None:
            key, sums = expected
            try:
                await self._context.transfers.verify_remote(volume.remote, key, sums, progress.add)
            except CkptdError as error:
                if not absent(error):
                    raise
                suspects.append(Suspect(key, sums, error.message))

        await side_by_side(objects_of(unit), look, _OBJECTS_AT_A_TIME)
        if not suspects:
            return []
        return [one.told for one in await self._mending.condemn(volume, unit.run, unit.step, suspects)]


def objects_of(unit: Unit) -> list[tuple[str, Checksums]]:
    """Keys of a checkpoint's objects, with what they should be."""
    copies = [(row.copy(Place.REMOTE), row.checksums) for row in unit.rows if row.link is None]
    objects = [(copy.location, sums) for copy, sums in copies if copy is not None and sums is not None]
    return objects + [(entry.key, entry.checksums) for entry in unit.cold.values() if entry.checksums is not None]
