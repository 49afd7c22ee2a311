"""What is done about a copy in a tier whose bytes are not what its checksum says.

It is put aside only once a good one is known to be there to take its place: nothing that might be of use is destroyed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass

from ckptd.catalog import CopyRow, FileRow
from ckptd.domain.errors import CkptdError, Conflict, IntegrityError, SourceChanged
from ckptd.domain.model import Place, Stamp
from ckptd.engine.context import Context
from ckptd.engine.hydrating import Hydrating
from ckptd.engine.mending import NO_MATCH, absent, keep_bad
from ckptd.engine.volume import Volume
from ckptd.tiers.attributes import stamp_of
from ckptd.tiers.beneath import parent_of, unlink_link
from ckptd.tiers.rename import How, rename


@dataclass(frozen=True, slots=True)
class Outcome:
    bad: bool
    """False: it is other content by now, or none of ours."""
    done: str
    """What was done about it, for people."""


_FINE = Outcome(False, "")


class Replacing:
    def __init__(self, context: Context, hydrating: Hydrating) -> None:
        self._context = context
        self._hydrating = hydrating

    async def replace(self, volume: Volume, row: FileRow, place: Place) -> Outcome:
        """The copy in tier `place` did not match. Raises RemoteError when the good one cannot be looked at now."""
        async with self._context.claimed([row.id]):
            now = await self._context.catalog.files.get(row.id)
            copy = None if now is None else now.copy(place)
            if now is None or copy is None or copy != row.copy(place) or now.path != row.path:
                return _FINE
            if not await self._another_is_good(volume, now, place):
                await keep_bad(self._context, volume, now, place)
                return Outcome(True, "no good copy is left; it stays in place")
            return await self._replace(volume, now, copy)

    async def _another_is_good(self, volume: Volume, row: FileRow, bad: Place) -> bool:
        if row.checksums is None:
            return False
        for place, copy in row.copies.items():
            if place in (bad, Place.REMOTE) or copy.generation != row.generation:
                continue
            with contextlib.suppress(IntegrityError, SourceChanged):
                await self._context.transfers.verify_local(copy.location, row.stamp(copy), row.checksums)
                return True
        remote = row.copy(Place.REMOTE)
        if remote is None:
            return False
        try:
            await self._context.transfers.verify_remote(volume.remote, remote.location, row.checksums)
        except CkptdError as error:
            if not absent(error):
                raise
            return False
        return True

    async def _replace(self, volume: Volume, row: FileRow, copy: CopyRow) -> Outcome:
        context, place = self._context, copy.place
        kept = os.path.join(context.tiers[place].path, "quarantine", f"{row.id}-{row.generation}")
        await context.catalog.files.drop_copy(row.id, place)
        try:
            await asyncio.to_thread(_set_aside, volume, row, copy, kept)
        except (SourceChanged, Conflict):
            return _FINE  # the job has written there: the front tells what
        await context.event(
            "error", "copy.quarantined", f"{row.path}: its copy in {place} did not match its checksum",
            volume=volume.name, path=row.path, kept_as=kept,
        )  # fmt: skip
        fresh = await context.catalog.files.get(row.id)
        try:
            if fresh is not None:
                await self._hydrating.file(fresh, place)
                if fresh.defect is not None and NO_MATCH in fresh.defect:
                    await context.catalog.files.set_defect(fresh.id, fresh.generation, None)
        except CkptdError as error:
            return Outcome(True, f"quarantined; the good copy could not be fetched: {error.message}")
        return Outcome(True, "quarantined and replaced from a good copy")


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
