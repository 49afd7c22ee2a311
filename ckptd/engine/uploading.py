"""Makes files durable."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping

from ckptd.catalog import CopyRow, FileRow
from ckptd.domain.errors import SourceChanged
from ckptd.domain.model import Checksums, Place
from ckptd.domain.names import key_of
from ckptd.engine import owning
from ckptd.engine.context import Context
from ckptd.engine.looking import Found
from ckptd.engine.matching import matches
from ckptd.engine.reusing import Reusing
from ckptd.engine.volume import Volume
from ckptd.manifest import ManifestEntry
from ckptd.manifest.format import FORMAT_KEY
from ckptd.transfer.transfers import Small

_ASKED_AGAIN_S = 30.0
"""A run that is nobody's in the remote may become somebody's on another node."""
SYNC_PRIORITY = 50
"""Of uploads: a job waits. Behind what somebody fetches."""


class Uploading:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._looked_for: dict[tuple[str, str], float] = {}
        """When the remote was asked for a run of which it has nothing that is known here."""
        """Runs of which it is known whose they are in the remote."""
        self._looked_up: set[tuple[str, str, int]] = set()
        """Checkpoints of which it is known who else wrote manifests."""
        self._reusing = Reusing(context.known)
        self.sent: dict[int, int] = {}
        """Bytes of running uploads that have left, by file."""
        self.singly: set[int] = set()
        """Files that are to go by themselves, because with others something came in between."""

    async def upload(self, file: int, generation: int) -> None:
        """Sends the file's content, if it still is this generation; records it as durable once the store confirmed it.

        Raises RemoteError, SourceChanged.
        """
        context = self._context
        row = await context.catalog.files.get(file)
        copy = None if row is None else row.local()
        if row is None or copy is None or row.generation != generation or row.durable:
            return
        volume = context.volumes[row.volume]
        context.require_met(volume.name)
        if await self.another_users(volume, row):
            return
        if await self._described_otherwise(volume, row):
            return  # the manifest that others may be reading goes first: the next plan says so
        key = key_of(row.path)
        if key in context.deleting:
            raise SourceChanged(f"an older object at {key} is being deleted")
        try:
            uploaded = await context.transfers.upload(
                volume.remote, key, copy.location, row.stamp(copy),
                journal_key=row.upload_key, on_bytes=self._counting(file),
                reuse=self._reusing.origin(row, key, context.deleting), owner=row.attributes.uid,
            )  # fmt: skip
        except asyncio.CancelledError:
            # What was on its way may have arrived: if nothing describes it in the end, it is deleted.
            await context.catalog.manifests.leave(volume.name, [key])
            raise
        finally:
            self.sent.pop(file, None)
        await self._record(volume, row, key, uploaded.etag, uploaded.checksums)
        self.singly.discard(file)
        context.copied.pop(file, None)
        if uploaded.copied:
            context.copied[file] = generation, uploaded.copied

    async def upload_open(self, row: FileRow, location: str, found: Found) -> None:
        """Sends what was found of a file that its writer has open, ahead of others: he waits for it. See `syncing`.

        Raises RemoteError, SourceChanged.
        """
        context, volume, key = self._context, self._context.volumes[row.volume], key_of(row.path)
        before = context.synced.get(row.id)
        if before is not None and before.key == key and before.attributes == found.attributes:
            sums = await context.transfers.checksum(
                location, found.stamp
            )  # who writes through a mapping changes no time
            if sums.whole == (before.checksums and before.checksums.whole):
                return
        if key in context.deleting:
            raise SourceChanged(f"an older object at {key} is being deleted")
        try:
            uploaded = await context.transfers.upload(
                volume.remote, key, location, found.stamp,
                journal_key=row.upload_key, on_bytes=self._counting(row.id), priority=SYNC_PRIORITY, owner=row.attributes.uid,
            )  # fmt: skip
        except asyncio.CancelledError:
            await context.catalog.manifests.leave(volume.name, [key])
            raise
        finally:
            self.sent.pop(row.id, None)
        now = await context.catalog.files.get(row.id)
        if now is None or now.path != row.path:
            await context.catalog.manifests.leave(volume.name, [key])
            raise SourceChanged(f"{row.path} was renamed or deleted while it was sent")
        await context.catalog.files.put_object(row.id, key, uploaded.etag)
        context.synced[row.id] = ManifestEntry(key, found.attributes, uploaded.checksums, etag=uploaded.etag)

    async def upload_several(self, wanted: Mapping[int, int]) -> None:
        """The same of many small files of one volume, given by id with their generation.

        What does not go at once is left to `upload`, which tries again and says what is wrong. Raises CkptdError.
        """
        context = self._context
        self.singly.update(wanted)  # unless all goes well
        rows = await context.catalog.files.by_ids(list(wanted))
        fit = [row for row in rows.values() if row.generation == wanted[row.id] and not row.durable]
        files: list[tuple[FileRow, Small]] = []
        for row in fit:
            volume, copy, key = context.volumes[row.volume], row.local(), key_of(row.path)
            context.require_met(volume.name)
            again = row.checksums is not None  # what was read before is compared with what is sent
            if copy is None or again or key in context.deleting or await self.another_users(volume, row):
                continue
            if await self._described_otherwise(volume, row):
                continue
            files.append((row, Small(key, copy.location, row.stamp(copy))))
        if not files:
            return
        volume = context.volumes[files[0][0].volume]
        try:
            uploaded = await context.transfers.upload_several(
                volume.remote, [small for _, small in files], files[0][0].attributes.uid
            )
        except asyncio.CancelledError:
            await context.catalog.manifests.leave(volume.name, [small.key for _, small in files])
            raise
        done = [
            (row, sent.checksums, CopyRow(Place.REMOTE, row.generation, small.key, etag=sent.etag))
            for (row, small), sent in zip(files, uploaded, strict=True)
            if sent is not None
        ]
        changed = await context.catalog.files.sent(done)
        await context.catalog.manifests.leave(volume.name, [key_of(row.path) for row in changed])
        self.singly.difference_update({row.id for row, _, _ in done} - {row.id for row in changed})

    def _counting(self, file: int) -> Callable[[int], None]:
        self.sent[file] = 0

        def count(some: int) -> None:
            self.sent[file] = self.sent.get(file, 0) + some

        return count

    async def _record(self, volume: Volume, row: FileRow, key: str, etag: str, checksums: Checksums) -> None:
        context = self._context
        async with context.catalog.transaction():
            now = await context.catalog.files.get(row.id)
            if now is None or now.path != row.path or now.generation != row.generation:
                # Renamed or rewritten while the last answer was on its way: what was sent is nobody's.
                await context.catalog.manifests.leave(volume.name, [key])
                raise SourceChanged(f"{row.path} changed while it was sent")
            if now.checksums is not None and now.checksums.whole != checksums.whole:
                # Nobody wrote it, and it was something else when it was read before.
                defect = "its bytes changed by themselves before they were sent"
                await context.catalog.files.set_defect(row.id, row.generation, defect)
            await context.catalog.files.set_checksums(row.id, row.generation, checksums)
            await context.catalog.files.put_copy(row.id, CopyRow(Place.REMOTE, row.generation, key, etag=etag))

    async def another_users(self, volume: Volume, row: FileRow) -> bool:
        """Whether the run belongs to another user in the remote (`owning.foreign`): asked there before its first file is sent."""
        context, run = self._context, (volume.name, row.run)
        if os.geteuid() == 0 and not context.known.has_run(*run):
            now = time.monotonic()
            if now - self._looked_for.get(run, -_ASKED_AGAIN_S) >= _ASKED_AGAIN_S:
                await context.known.refresh(volume, row.run)
                self._looked_for[run] = now
        if not owning.is_foreign(context, volume, row.run):
            return False
        context.wake()  # the next plan leaves it alone
        return True

    async def _described_otherwise(self, volume: Volume, row: FileRow) -> bool:
        """Whether a manifest (of this node or another) describes other content of what is about to be sent."""
        if row.step is None:
            return False
        context, unit = self._context, (volume.name, row.run, row.step)
        await self.look_up(volume, row.run, row.step)
        committed = context.known.of(*unit)
        entry = None if committed is None else committed.entries().get(row.path)
        if entry is None or matches(row, entry):
            return False
        context.wake()
        return True

    async def look_up(self, volume: Volume, run: str, step: int) -> None:
        """Once for each checkpoint, before the first of it is sent: who else wrote manifests of it. Raises RemoteError."""
        context, unit = self._context, (volume.name, run, step)
        if unit not in self._looked_up:
            # Where a file system is not mounted any more, its directory takes every file without a complaint.
            await context.transfers.require(volume.remote, FORMAT_KEY)
            await context.known.refresh(volume, run, step)
            self._looked_up.add(unit)
