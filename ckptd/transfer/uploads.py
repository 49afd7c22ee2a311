"""Tier → store, one file: whole if it fits in a part, else in parts that are remembered as they arrive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from ckptd.domain.model import Checksums, PartDone, Stamp, Unfinished
from ckptd.transfer import calls
from ckptd.transfer.dispatch import Dispatcher, Turn
from ckptd.transfer.journal import Journal
from ckptd.transfer.progress import Progress
from ckptd.transfer.refusal import SOURCE_CHANGED, UPLOAD_GONE, Refused
from ckptd.transfer.side_by_side import side_by_side
from ckptd.transfer.split import Part, parts_of

BEGINNINGS = 3
"""How often an upload is begun when the store forgets it half way."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Uploaded:
    etag: str
    checksums: Checksums


@dataclass(frozen=True, slots=True)
class UploadJob:
    remote: calls.Remote
    key: str
    path: str
    stamp: Stamp
    journal_key: str
    part_size: int
    """Fits the store's limits."""
    turn: Turn
    progress: Progress

    @property
    def detail(self) -> str:
        """Parts of an older content of the same size must never be joined with new ones."""
        return f"upload {self.stamp.inode} {self.stamp.mtime_ns} {self.key}"


def key_of_unfinished(unfinished: Unfinished) -> str:
    """The object that an upload in the journal was to become."""
    return unfinished.detail.split(" ", 3)[3]


class Uploads:
    def __init__(self, dispatcher: Dispatcher, journal: Journal, width: int) -> None:
        self._ask = dispatcher.ask
        self._journal = journal
        self._width = width

    async def run(self, job: UploadJob) -> Uploaded:
        if job.stamp.size <= job.part_size:
            return await self._whole(job)
        for beginning in range(1, BEGINNINGS + 1):
            try:
                return await self._in_parts(job)
            except Refused as refused:
                if refused.refusal.code == SOURCE_CHANGED:
                    await self._try_to_abandon(job)
                if refused.refusal.code != UPLOAD_GONE or beginning == BEGINNINGS:
                    raise
                _log.warning("upload.forgotten_by_store", remote=job.remote.name, key=job.key)
                # Some stores say so of a part only: what else of it is there is freed.
                await self.abandon(job.remote, job.journal_key)
                job.progress.again()
        raise AssertionError

    async def abandon(self, remote: calls.Remote, journal_key: str) -> None:
        """Frees the parts in the store and forgets them. (The file may have had another name when it was begun.)"""
        unfinished = await self._journal.load(journal_key)
        if unfinished is None:
            return
        if unfinished.upload_id:
            abort = calls.Abort(remote, key_of_unfinished(unfinished), unfinished.upload_id)
            await self._ask(abort, remote=remote.name)
        await self._journal.forget(journal_key)

    async def _try_to_abandon(self, job: UploadJob) -> None:
        """A store that is just away keeps the parts, and the journal their upload's id: the next upload abandons them."""
        try:
            await self.abandon(job.remote, job.journal_key)
        except Refused as refused:
            _log.info("upload.not_abandoned", remote=job.remote.name, key=job.key, error=refused.refusal.message)

    async def _whole(self, job: UploadJob) -> Uploaded:
        await self.abandon(job.remote, job.journal_key)  # of an older, larger content
        call = calls.PutWhole(job.remote, job.key, job.path, job.stamp)
        stored = await self._ask(call, remote=job.remote.name, turn=job.turn, on_bytes=job.progress.moved)
        size = job.stamp.size
        parts = (stored.crc64nvme,) if size else ()
        return Uploaded(stored.etag, Checksums(size, job.part_size, parts, stored.crc64nvme))

    async def _in_parts(self, job: UploadJob) -> Uploaded:
        unfinished = await self._begun(job)
        done = {part.number: part for part in unfinished.parts}
        job.progress.known(sum(part.size for part in done.values()))

        async def send(part: Part) -> None:
            call = calls.PutPart(
                job.remote, job.key, unfinished.upload_id, part.number, part.offset, part.length, job.path, job.stamp
            )
            tag = await self._ask(call, remote=job.remote.name, turn=job.turn, on_bytes=job.progress.moved)
            done[part.number] = tag
            await self._journal.part_done(job.journal_key, tag)

        missing = (part for part in parts_of(job.stamp.size, job.part_size) if part.number not in done)
        await side_by_side(missing, send, self._width)
        return await self._finished(job, unfinished.upload_id, tuple(done[number] for number in sorted(done)))

    async def _begun(self, job: UploadJob) -> Unfinished:
        """The upload to go on with, or a new one."""
        old = await self._journal.load(job.journal_key)
        if old and (old.size, old.part_size, old.detail) == (job.stamp.size, job.part_size, job.detail):
            return old
        await self.abandon(job.remote, job.journal_key)
        begun = await self._ask(calls.Begin(job.remote, job.key, job.stamp.size), remote=job.remote.name)
        new = Unfinished(begun.upload_id, job.part_size, job.stamp.size, (), job.detail)
        # Once the store has begun it, a cancellation must not keep the journal from knowing.
        await asyncio.shield(asyncio.ensure_future(self._journal.begin(job.journal_key, new)))
        return new

    async def _finished(self, job: UploadJob, upload_id: str, parts: tuple[PartDone, ...]) -> Uploaded:
        call = calls.Finish(job.remote, job.key, upload_id, parts, job.path, job.stamp)
        stored = await self._ask(call, remote=job.remote.name)
        await self._journal.forget(job.journal_key)
        sums = tuple(part.crc64nvme for part in parts)
        return Uploaded(stored.etag, Checksums(job.stamp.size, job.part_size, sums, stored.crc64nvme))
