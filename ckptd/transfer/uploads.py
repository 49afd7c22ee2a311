"""Tier → store, one file: whole if it fits in a part, else in parts that are remembered as they arrive.

What the store holds already is copied there (`reuse`); a copied part is a part that has arrived.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from ckptd.domain.model import Checksums, PartDone, Stamp, Unfinished
from ckptd.transfer import calls
from ckptd.transfer.dispatch import Dispatcher, Turn
from ckptd.transfer.journal import Journal
from ckptd.transfer.progress import Progress, Tallies
from ckptd.transfer.refusal import CHECKSUM, SOURCE_CHANGED, UPLOAD_GONE, Refusal, Refused
from ckptd.transfer.reuse import Offer
from ckptd.transfer.side_by_side import side_by_side
from ckptd.transfer.split import Part, parts_of

BEGINNINGS = 3
"""How often an upload is begun when the store forgets it half way."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Uploaded:
    etag: str
    checksums: Checksums
    copied: int = 0
    """Bytes of it that were not sent, because the store held them."""


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
    offer: Offer

    @property
    def detail(self) -> str:
        """Parts of an older content of the same size must never be joined with new ones."""
        return f"upload {self.stamp.inode} {self.stamp.mtime_ns} {self.key}"


def key_of_unfinished(unfinished: Unfinished) -> str:
    """The object that an upload in the journal was to become."""
    return unfinished.detail.split(" ", 3)[3]


class Uploads:
    def __init__(self, dispatcher: Dispatcher, journal: Journal, width: int, tallies: Tallies) -> None:
        self._ask = dispatcher.ask
        self._journal = journal
        self._width = width
        self._tallies = tallies

    async def run(self, job: UploadJob) -> Uploaded:
        uploaded = await (self._whole(job) if job.stamp.size <= job.part_size else self._by_parts(job))
        job.offer.done()
        return uploaded

    async def _by_parts(self, job: UploadJob) -> Uploaded:
        for beginning in range(1, BEGINNINGS + 1):
            try:
                return await self._in_parts(job)
            except Refused as refused:
                code = refused.refusal.code
                if code == SOURCE_CHANGED:
                    await self._try_to_abandon(job)
                copies_fail = job.offer.used and code in (UPLOAD_GONE, CHECKSUM)
                if not (copies_fail or code == UPLOAD_GONE) or beginning == BEGINNINGS:
                    raise
                _log.warning("upload.forgotten_by_store", remote=job.remote.name, key=job.key, code=code)
                job.offer.unjoined(code)  # perhaps for what was copied: that is sent now
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
        size = job.stamp.size
        call = calls.PutWhole(job.remote, job.key, job.path, job.stamp, job.offer.whole(size))
        stored = await self._ask(call, remote=job.remote.name, turn=job.turn, on_bytes=job.progress.moved)
        self._note(job, size, copied=stored.copied, trouble=stored.trouble)
        parts = (stored.crc64nvme,) if size else ()
        return Uploaded(stored.etag, Checksums(size, job.part_size, parts, stored.crc64nvme), job.offer.copied)

    def _note(self, job: UploadJob, count: int, *, copied: bool, trouble: Refusal | None) -> None:
        tally = self._tallies[job.remote.name]
        if copied:
            tally.copied += count
            job.offer.took(count)
            job.progress.known(count)
            return
        tally.sent += count
        if trouble is not None:
            _log.info(
                "upload.not_copied", remote=job.remote.name, key=job.key, code=trouble.code, error=trouble.message
            )
            job.offer.refused(trouble)

    async def _in_parts(self, job: UploadJob) -> Uploaded:
        unfinished = await self._begun(job)
        done = {part.number: part for part in unfinished.parts}
        job.progress.known(sum(part.size for part in done.values()))
        if done:
            job.offer.resumed()

        async def send(part: Part) -> None:
            call = calls.PutPart(
                job.remote, job.key, unfinished.upload_id, part.number, part.offset, part.length, job.path, job.stamp,
                job.offer.part(part, job.part_size),
            )  # fmt: skip
            stored = await self._ask(call, remote=job.remote.name, turn=job.turn, on_bytes=job.progress.moved)
            self._note(job, part.length, copied=stored.copied, trouble=stored.trouble)
            done[part.number] = stored.part
            await self._journal.part_done(job.journal_key, stored.part)

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
        checksums = Checksums(job.stamp.size, job.part_size, sums, stored.crc64nvme)
        return Uploaded(stored.etag, checksums, job.offer.copied)
