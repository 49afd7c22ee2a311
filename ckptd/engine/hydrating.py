"""Brings files into a tier: downloaded or copied into a private file, verified, then put in place in one step."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from functools import partial

from ckptd.catalog import CopyRow, FileRow
from ckptd.domain.errors import CkptdError, Conflict, NotKnown
from ckptd.domain.model import Attributes, Place
from ckptd.engine import adopting
from ckptd.engine.context import Context
from ckptd.engine.leaving import drop_objects
from ckptd.engine.staging import plain_name
from ckptd.engine.volume import Volume
from ckptd.manifest import ManifestEntry
from ckptd.tiers import swap
from ckptd.tiers.attributes import dress, write_origin
from ckptd.transfer.transfers import ObjectStat

OnPart = Callable[[str, int, int], None]
"""Gets the private file, offset and length of each part that is there and was checked, before the whole is."""


def _nothing(_: int) -> None: ...


def _nobody(_staged: str, _offset: int, _length: int) -> None: ...


class Hydrating:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def entry(
        self,
        volume: Volume,
        entry: ManifestEntry,
        to: Place,
        on_bytes: Callable[[int], None],
        on_part: OnPart = _nobody,
    ) -> None:
        """Makes a file hot that only a manifest describes."""
        if entry.link is not None:
            if not adopting.link(volume, entry):
                await self._context.event(
                    "warning", "link.refused", f"{entry.path} -> {entry.link} leads out of the volume: it is not made",
                    volume=volume.name, path=entry.path, hint="make it yourself (ln -s) if that is meant",
                )  # fmt: skip
            return
        await self._context.known.recall_member(volume.name, entry)
        row = await self._context.catalog.files.at(volume.name, entry.path)
        if row is None:
            row = await adopting.adopt(self._context.catalog, volume, entry, self._context.clock())
        await self.file(row, to, on_bytes, on_part)

    async def file(
        self, row: FileRow, to: Place, on_bytes: Callable[[int], None] = _nothing, on_part: OnPart = _nobody
    ) -> None:
        """Makes a file hot in tier `to`. Raises RemoteError, IntegrityError, NoRoom, Conflict."""
        context = self._context
        async with context.claimed([row.id], moving_to=to, size=row.size):
            now = await context.catalog.files.get(row.id)
            if now is None or now.generation != row.generation:
                return  # the job wrote it meanwhile: what it wrote is hot
            volume, local = context.volumes[row.volume], now.local()
            if local is not None and (local.place is to or to is not Place.RAM or volume.home is not Place.RAM):
                on_bytes(row.size)
                return
            staged = context.tiers[to].staged(f"{row.id}-{row.generation}")
            await self._fill(volume, now, local, staged, on_bytes, partial(on_part, staged))
            await self._place(volume, now, staged, local, to)

    async def plain(self, volume: Volume, stat: ObjectStat, attributes: Attributes, to: Place, on_part: OnPart) -> None:
        """Makes a file hot that no manifest describes. Errors as those of `file`."""
        context = self._context
        staged = context.tiers[to].staged(plain_name(stat.key))
        sums = await context.transfers.take(volume.remote, stat, staged, on_part=partial(on_part, staged))
        entry = ManifestEntry(stat.key, attributes, sums, etag=stat.etag)
        async with context.catalog.transaction():
            there = await context.catalog.files.at(volume.name, entry.path)
            row = None
            if there is None or (there.plain and there.local() is None):
                row = await adopting.adopt(context.catalog, volume, entry, context.clock(), plain=True)
        if row is None:  # the job has made a file there meanwhile
            os.unlink(staged)
            return
        async with context.claimed([row.id], moving_to=to, size=row.size):
            await self._place(volume, row, staged, None, to)

    async def _place(self, volume: Volume, row: FileRow, staged: str, local: CopyRow | None, to: Place) -> None:
        home = to is volume.home
        placing = self._place_home(volume, row, staged, local) if home else self._place_object(volume, row, staged)
        await self._context.to_the_end(placing, f"place {row.id}")

    async def _fill(
        self, volume: Volume, row: FileRow, local: CopyRow | None, staged: str, on_bytes: Callable[[int], None],
        on_part: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        if local is None:
            await self._download(volume, row, staged, on_bytes, on_part)
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)  # of an attempt that was killed
        stamp = row.stamp(local)
        await self._context.transfers.copy(local.location, stamp, staged, expect=row.checksums, on_bytes=on_bytes)

    async def _download(
        self, volume: Volume, row: FileRow, staged: str, on_bytes: Callable[[int], None],
        on_part: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        remote = row.copy(Place.REMOTE)
        if remote is None or row.checksums is None:
            raise NotKnown(f"no copy is left of {row.path}", hint="ckptctl ls shows what is restorable")
        await self._context.transfers.download(
            volume.remote, remote.location, staged, checksums=row.checksums,
            journal_key=f"down/{row.id}/{row.generation}", on_bytes=on_bytes, on_part=on_part,
        )  # fmt: skip

    async def _place_home(self, volume: Volume, row: FileRow, staged: str, local: CopyRow | None) -> None:
        files = self._context.catalog.files
        try:
            if local is not None:
                stamp = await asyncio.to_thread(
                    swap.relink, volume.root, row.path, staged, local.location, row.stamp(local), row.attributes
                )
            else:
                stub = swap.stub_at(volume.root, row.path)
                stamp = swap.put_in_place(staged, volume.root, row.path, row.attributes, replacing=stub)
        except CkptdError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(staged)
            raise
        copy = CopyRow(volume.home, row.generation, volume.locate(row.path), stamp.inode, stamp.mtime_ns)
        async with self._context.catalog.transaction():
            await files.put_copy(row.id, copy)
            if local is not None:
                await files.drop_copy(row.id, local.place, local.generation)
        if local is not None:
            await drop_objects(self._context, volume, [row])

    async def _place_object(self, volume: Volume, row: FileRow, staged: str) -> None:
        location = volume.object_path(row.id)
        if await self._context.catalog.files.is_used(location):
            raise Conflict(f"the job copied the link of an older content of {row.path}", hint="prefetch it --to ram")
        done = dress(staged, row.attributes)
        write_origin(staged, row.path)
        os.replace(staged, location)
        copy = CopyRow(Place.NVME, row.generation, location, done.inode, done.mtime_ns)
        await self._context.catalog.files.put_copy(row.id, copy)
        swap.link_in(volume.root, row.path, location, replacing=swap.stub_at(volume.root, row.path))
