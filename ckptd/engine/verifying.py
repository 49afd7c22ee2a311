"""Reads every byte of the copies against the checksums; a bad copy is quarantined and replaced from a good one."""

from __future__ import annotations

import asyncio
import os

from ckptd.catalog import CopyRow, FileRow
from ckptd.domain.errors import CkptdError, Conflict, IntegrityError, NotKnown, SourceChanged
from ckptd.domain.model import Place, Stamp
from ckptd.domain.names import CheckpointId, key_of
from ckptd.engine.context import Context
from ckptd.engine.hydrating import Hydrating
from ckptd.engine.operations import Progress
from ckptd.engine.prefetching import Choosing
from ckptd.engine.units import Unit
from ckptd.engine.volume import Volume
from ckptd.tiers.attributes import stamp_of
from ckptd.tiers.beneath import parent_of, unlink_link
from ckptd.tiers.rename import How, rename


class Verifying:
    def __init__(self, context: Context, choosing: Choosing, hydrating: Hydrating) -> None:
        self._context = context
        self._choosing = choosing
        self._hydrating = hydrating

    async def verify(self, progress: Progress) -> None:
        """Raises IntegrityError naming what is bad (and what was done about it), RemoteError."""
        operation = progress.operation
        volume = self._context.volume(operation.volume)
        far = "remote" in operation.arguments
        unit = await self._choosing.restorable(volume, CheckpointId.parse(operation.target), must=far)
        rows = [row for row in unit.rows if row.link is None]
        progress.total = sum(row.size for row in rows if row.local()) + (unit.durable_bytes if far else 0)
        bad = []
        unchecked = 0
        for row in rows:
            local = row.local()
            if local is not None and row.checksums is None:
                unchecked += 1  # it is on its way to the remote: its checksum is taken there
            elif local is not None and not await self._local_is_good(row):
                async with self._context.claimed([row.id]):
                    done = await self._replace(volume, row, local.place)
                if done is not None:
                    bad.append(f"{key_of(row.path)} in {local.place}: {done}")
            progress.add(row.size if local else 0)
        if far:
            bad += await self._remote(volume, unit, progress)
        if bad:
            raise IntegrityError(f"{len(bad)} bad: " + "; ".join(bad), hint="see: ckptctl events")
        note = f", {unchecked} have no checksum yet" if unchecked else ""
        here = sum(row.local() is not None for row in rows)
        if not here and not far:
            raise NotKnown(
                f"{unit.run}@{unit.step} has no copy on this node: nothing was read",
                hint="ckptctl verify --remote reads the remote's copies",
            )
        where = f"{here} of {unit.files} files here" + (" and all in the remote" if far else "")
        progress.result = f"{unit.run}@{unit.step}: {where}, all good{note}"

    async def _local_is_good(self, row: FileRow) -> bool:
        copy = row.local()
        if copy is None or row.checksums is None:
            return True
        try:
            sums = await self._context.transfers.checksum(copy.location, row.stamp(copy))
        except SourceChanged:
            return True  # it is being written: no copy of this content is claimed any more
        return sums.whole == row.checksums.whole

    async def _replace(self, volume: Volume, row: FileRow, place: Place) -> str | None:
        """Moves the bad copy aside and fetches a good one. Says what was done; None if it is other content by now."""
        now = await self._context.catalog.files.get(row.id)
        copy = None if now is None else now.copy(place)
        if now is None or copy != row.copy(place) or (now.generation, now.path) != (row.generation, row.path):
            return None
        if copy is None or now.copy(Place.REMOTE) is None:
            return "no other copy, left in place"
        kept = os.path.join(self._context.tiers[place].path, "quarantine", f"{row.id}-{row.generation}")
        await self._context.catalog.files.drop_copy(row.id, place)
        try:
            await asyncio.to_thread(_set_aside, volume, now, copy, kept)
        except (SourceChanged, Conflict):
            return None  # the job has written there: the front tells what
        await self._context.event(
            "error", "copy.quarantined", f"{row.path}: its copy in {place} did not match its checksum",
            volume=volume.name, path=row.path, kept_as=kept,
        )  # fmt: skip
        fresh = await self._context.catalog.files.get(row.id)
        try:
            if fresh is not None:
                await self._hydrating.file(fresh, place)
        except CkptdError as error:
            return f"quarantined; the good copy could not be fetched: {error.message}"
        return "quarantined and replaced from the remote"

    async def _send_again(self, volume: Volume, unit: Unit, key: str) -> None:
        """A good copy here replaces the bad object: the file is not durable, and the checkpoint not committed, until then."""
        row = next((row for row in unit.rows if (copy := row.copy(Place.REMOTE)) and copy.location == key), None)
        if row is None or row.local() is None or unit.step is None or unit.committed is None:
            return
        await self._context.catalog.files.drop_copy(row.id, Place.REMOTE)
        await volume.manifests.delete(unit.run, unit.step, unit.committed.by_node)
        await self._context.known.delete(volume.name, unit.run, unit.step)
        self._context.wake()

    async def _remote(self, volume: Volume, unit: Unit, progress: Progress) -> list[str]:
        bad = []
        copies = [(row.copy(Place.REMOTE), row.checksums) for row in unit.rows]
        objects = [(copy.location, sums) for copy, sums in copies if copy is not None and sums is not None]
        objects += [(entry.key, entry.checksums) for entry in unit.cold.values() if entry.checksums is not None]
        for key, sums in objects:
            try:
                await self._context.transfers.verify_remote(volume.remote, key, sums, progress.add)
            except IntegrityError as error:
                bad.append(f"{key} in the remote: {error.message}")
                await self._context.event("error", "remote.bad", error.message, volume=volume.name, key=key)
                await self._send_again(volume, unit, key)
        return bad


def _set_aside(volume: Volume, row: FileRow, copy: CopyRow, kept: str) -> None:
    """Raises SourceChanged if another file lies at the copy's place, Conflict if a link stands in its directory's.

    What was moved is looked at once more: the job may rename a new file to the place at any moment.
    """
    in_place = copy.location == volume.locate(row.path)
    root, relative = (volume.root, row.path) if in_place else os.path.split(copy.location)
    try:
        with parent_of(root, relative) as (parent, name):
            if not _is(parent, name, row.stamp(copy)):
                raise SourceChanged(f"{row.path} was written meanwhile")
            os.replace(name, kept, src_dir_fd=parent)
            if stamp_of(kept) != row.stamp(copy):
                rename(kept, name, How.NOREPLACE, target_dir=parent)
                raise SourceChanged(f"{row.path} was written meanwhile")
    except (FileNotFoundError, FileExistsError) as error:
        raise SourceChanged(f"{row.path} was removed or written meanwhile") from error
    if not in_place:
        unlink_link(volume.root, row.path, copy.location)


def _is(parent: int, name: str, stamp: Stamp) -> bool:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return (found.st_ino, found.st_size, found.st_mtime_ns) == (stamp.inode, stamp.size, stamp.mtime_ns)
