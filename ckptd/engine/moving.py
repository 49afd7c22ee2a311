"""Between tiers, and out of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence

from ckptd.catalog import CopyRow, FileRow
from ckptd.domain.errors import Busy, CkptdError, OnlyCopy, RemoteError, SourceChanged
from ckptd.domain.model import Checksums, Place
from ckptd.engine.confirming import still_there
from ckptd.engine.context import Context
from ckptd.engine.hydrating import Hydrating
from ckptd.engine.leaving import unlink_object
from ckptd.engine.matching import matches
from ckptd.engine.stubs import stub_of
from ckptd.engine.volume import Volume
from ckptd.tiers import swap
from ckptd.tiers.attributes import dress, write_origin
from ckptd.tiers.beneath import unlink_link


class Moving:
    def __init__(self, context: Context, hydrating: Hydrating) -> None:
        self._context = context
        self._hydrating = hydrating

    async def demote(self, file: int, generation: int) -> None:
        """RAM -> NVMe: copied and verified first, then the file at its path is replaced by a link to the copy.

        Raises Busy when somebody has it open, SourceChanged, NoRoom.
        """
        context = self._context
        row = await context.catalog.files.get(file)
        copy = None if row is None else row.copy(Place.RAM)
        if row is None or copy is None or row.generation != generation:
            return
        volume = context.volumes[row.volume]
        location = volume.object_path(file)
        if await context.catalog.files.is_used(location):
            raise Busy(f"the job copied the link of an older content of {row.path}", hint="it stays in RAM")
        staged = context.tiers[Place.NVME].staged(f"{file}-{generation}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)  # of an attempt that was killed
        sums = await context.transfers.copy(copy.location, row.stamp(copy), staged, expect=row.checksums)
        # Not looked at again after the exchange: the job may have written through the link by then.
        done = dress(staged, row.attributes)
        nvme = CopyRow(Place.NVME, generation, location, done.inode, done.mtime_ns)
        write_origin(staged, row.path)
        os.replace(staged, location)
        await context.to_the_end(self._exchange(volume, row, copy, nvme, sums), f"demote {file}")

    async def _exchange(self, volume: Volume, row: FileRow, copy: CopyRow, nvme: CopyRow, sums: Checksums) -> None:
        """Not to be cancelled: between the exchange and its record only a kill may come (the next scan finds the link)."""
        files = self._context.catalog.files
        try:
            await asyncio.to_thread(swap.link_out, volume.root, row.path, row.stamp(copy), nvme.location)
        except (CkptdError, OSError):
            unlink_object(nvme.location)
            raise
        async with self._context.catalog.transaction():
            if await files.put_copy(row.id, nvme):
                await files.drop_copy(row.id, Place.RAM)
                if row.checksums is None:
                    await files.set_checksums(row.id, row.generation, sums)
        self._context.meters.demotions.labels(volume.name).inc()
        self._context.meters.demoted_bytes.labels(volume.name).inc(row.size)

    async def promote(self, file: int, generation: int) -> None:
        row = await self._context.catalog.files.get(file)
        if row is not None and row.generation == generation:
            await self._hydrating.file(row, Place.RAM)
            self._context.meters.promotions.labels(row.volume).inc()

    async def evict(self, file: int, generation: int) -> None:
        """Drops all tier copies of a durable file. Raises Busy when somebody has it open."""
        row = await self._context.catalog.files.get(file)
        if row is None or row.generation != generation:
            return
        if not row.durable:
            raise OnlyCopy(f"{row.path} is not durable yet", hint="ckptctl flush first")
        await self.confirm_durable([row])
        await self.drop_local(row)
        if row.step is not None:
            await self.fold(row.volume, row.run, row.step)

    async def confirm_durable(self, rows: Sequence[FileRow]) -> None:
        """Before the last copies here go. A remote that does not answer now confirmed them when they were sent."""
        for name in {row.volume for row in rows}:
            volume = self._context.volumes[name]
            try:
                await still_there(self._context, volume, [row for row in rows if row.volume == name])
            except RemoteError as error:
                if not error.retryable:
                    raise

    async def drop_local(self, row: FileRow) -> None:
        """Removes what lies in the tiers. Raises Busy when somebody has it open, SourceChanged when it is other content."""
        await self._context.to_the_end(self._drop(row), f"drop {row.id}")

    async def _drop(self, row: FileRow) -> None:
        # The catalog forgets first, so that the front's news of the removal say nothing new. A kill in between leaves a
        # file that the next scan compares with the remote and takes for what it is.
        files = self._context.catalog.files
        volume = self._context.volumes[row.volume]
        async with self._context.catalog.transaction():
            now = await files.get(row.id)
            if now is None or (now.generation, now.path) != (row.generation, row.path):
                raise SourceChanged(f"{row.path} was written or renamed meanwhile", hint="it stays; try again")
            local = [copy for place, copy in now.copies.items() if place is not Place.REMOTE]
            for copy in local:
                await files.drop_copy(row.id, copy.place, copy.generation)
        try:
            for copy in local:
                shared = await files.is_used(copy.location)
                await asyncio.to_thread(self._remove, volume, row, copy, shared)
        except CkptdError:
            for copy in local:
                if os.path.lexists(copy.location):
                    await files.put_copy(row.id, copy)  # not if the job has written other content by now
            raise
        if local:
            self._context.meters.evictions.labels(volume.name).inc()
            self._context.meters.evicted_bytes.labels(volume.name).inc(row.size)

    @staticmethod
    def _remove(volume: Volume, row: FileRow, copy: CopyRow, shared: bool) -> None:
        """`shared`: another file's link leads to the same object (the job copied the link): only ours goes."""
        path = volume.locate(row.path)
        # In a mounted volume a file that is only in the remote stays in sight.
        stub = stub_of(row.size, row.attributes).target if volume.front.is_mount and row.durable else None
        if stub is not None and (copy.location == path or not shared):
            demoted_to = None if copy.location == path else copy.location
            swap.stub_out(volume.root, row.path, row.stamp(copy), stub, demoted_to=demoted_to)
        elif copy.location == path:
            swap.remove(volume.root, row.path, row.stamp(copy))
        elif not shared:
            swap.remove_link(volume.root, row.path, copy.location, row.stamp(copy))
        else:
            unlink_link(volume.root, row.path, copy.location)

    async def fold(self, volume: str, run: str, step: int) -> None:
        """Forgets the rows of a checkpoint that is cold altogether: its manifest says all that they say."""
        context = self._context
        async with context.catalog.transaction():
            rows = await context.catalog.files.of_unit(volume, run, step)
            committed = context.known.of(volume, run, step)
            if committed is None:
                return
            entries = committed.entries()
            if all(row.link is None and not row.local() and matches(row, entries.get(row.path)) for row in rows):
                await context.catalog.files.delete([row.id for row in rows])
