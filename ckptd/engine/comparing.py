"""Compares files with what is known of them, in the background, instead of taking them for new."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from ckptd.catalog import CopyRow, FileRow
from ckptd.domain.errors import CkptdError, StateUnusable
from ckptd.domain.model import Checksums, Place
from ckptd.engine import looking
from ckptd.engine.context import Context, Running
from ckptd.engine.volume import Volume
from ckptd.layouts import locate
from ckptd.manifest import ManifestEntry

log = structlog.get_logger()

_AGAIN_S = 1.0


class Comparing:
    def __init__(self, context: Context, volume: Volume, settle: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        """`settle` takes paths whose content turned out to be new."""
        self._context = context
        self._volume = volume
        self._files = context.catalog.files
        self._settle = settle

    async def with_remote(self, paths: Sequence[str]) -> None:
        """Files that a manifest describes with the same size may be what is in the remote already (after a rebuild, or when
        a job copied a checkpoint back), and so may those that were sent while they were open: comparing is much cheaper
        than sending.
        """
        described: dict[str, ManifestEntry] = {}
        for path in paths:
            where = locate(path)
            unit = None if where.step is None else self._context.known.of(self._volume.name, where.run, where.step)
            entry = None if unit is None else unit.entries().get(path)
            if entry is not None and entry.checksums is not None:
                described[path] = entry
        described |= await self._sent_open(paths)
        for path, row in (await self._files.at_paths(self._volume.name, list(described))).items():
            entry = described[path]
            if (
                entry.checksums is not None
                and entry.size == row.size
                and row.local()
                and row.id not in self._context.files
            ):
                self.begin(row, entry.checksums, entry)

    async def _sent_open(self, paths: Sequence[str]) -> dict[str, ManifestEntry]:
        synced = self._context.synced
        if not synced:
            return {}
        rows = await self._files.at_paths(self._volume.name, paths)
        sent = {path: synced.pop(row.id) for path, row in rows.items() if row.closed and row.id in synced}
        return {path: entry for path, entry in sent.items() if entry.path == path}

    def begin(self, row: FileRow, expected: Checksums, entry: ManifestEntry | None) -> None:
        """Reads the file in the background. Equal content: nothing but its stamp changed (and `entry` is its remote copy);
        other content: a new generation.
        """
        task = self._context.spawn(self._guarded(row, expected, entry), f"compare {row.id}")
        self._context.files[row.id] = Running(task)
        task.add_done_callback(lambda _: self._ended(row.id, task))

    def _ended(self, file: int, task: object) -> None:
        running = self._context.files.get(file)
        if running is not None and running.task is task:
            del self._context.files[file]
        self._context.wake()

    async def _guarded(self, row: FileRow, expected: Checksums, entry: ManifestEntry | None) -> None:
        while True:
            try:
                await self._now(row, expected, entry)
            except StateUnusable as error:  # the catalog's disk is full
                log.error("compare.unrecorded", path=row.path, error=error.message, again_in_s=_AGAIN_S)
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _now(self, row: FileRow, expected: Checksums, entry: ManifestEntry | None) -> None:
        copy = row.local()
        found = None if copy is None else looking.find(copy.location)
        if copy is None or found is None:
            return
        try:
            sums = await self._context.transfers.checksum(copy.location, found.stamp)
        except CkptdError:
            return  # it changed once more: its close will be told
        if sums.whole != expected.whole or sums.size != expected.size:
            if entry is None:
                await self._settle([row.path])
            else:
                await self._files.set_checksums(row.id, row.generation, sums)  # it is known now to be other content
            return
        async with self._context.catalog.transaction():
            await self._files.set_attributes(row.id, found.attributes)
            fresh = CopyRow(copy.place, row.generation, copy.location, found.stamp.inode, found.stamp.mtime_ns)
            await self._files.put_copy(row.id, fresh)
            if entry is not None:
                await self._files.set_checksums(row.id, row.generation, expected)
                await self._files.put_copy(row.id, CopyRow(Place.REMOTE, row.generation, entry.key, etag=entry.etag))
