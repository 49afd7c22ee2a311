"""The face of this package: move files between tiers and stores, and speak with stores about small objects.

Every method may be cancelled: the mover stops at its next chunk and the slot is free again. What changes the store is
waited for even then (`calls.Call.writes`), so nothing of a cancelled call reaches the store after it has returned.
Transient failures are tried again for about half a minute; then RemoteError(retryable=True): the planner asks later.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from ckptd.domain.errors import CkptdError
from ckptd.domain.model import Checksums, Stamp, TransferReport
from ckptd.transfer import calls
from ckptd.transfer.backoff import Backoff
from ckptd.transfer.calls import Features, ObjectStat, Remote, Small
from ckptd.transfer.dispatch import Dispatcher, Turn
from ckptd.transfer.downloads import DownloadJob, Downloads, TakeJob
from ckptd.transfer.health import Health, HealthBook
from ckptd.transfer.journal import Journal
from ckptd.transfer.pool import MoverPool
from ckptd.transfer.progress import Progress, Queue, Tallies, Tally
from ckptd.transfer.rates import Rate
from ckptd.transfer.refusal import BUCKET_MISSING, CORRUPT, MOVER_DIED, PRECONDITION, Refusal, Refused, spoken
from ckptd.transfer.reuse import CopyBook, Offer, Reusable
from ckptd.transfer.side_by_side import side_by_side
from ckptd.transfer.slots import Slots
from ckptd.transfer.split import Part, part_size_for, stretches
from ckptd.transfer.uploads import Uploaded, UploadJob, Uploads

__all__ = ["Health", "ObjectStat", "Remote", "Reusable", "Small", "Tally", "Transfers", "Uploaded"]

DOWNLOAD_PRIORITY = 100
"""Somebody waits for a prefetch; larger goes first."""
VERIFY_PRIORITY = -100
"""What can wait."""
SCRUB_PRIORITY = -1000
"""Nobody waits for it."""
LOCAL_CALLS = 2
"""Copies and checksums at a time: they are as fast as memory or the disk, more only make each slower."""
COPY_TRIES = 3
"""A mover that dies under a copy is not the copy's fault; three of them may be."""
PAGE = 999
"""Objects a listing gives in one answer: with the one that tells whether more follow, one page of S3."""
DELETE_KEYS = 1000
"""Keys in one call: what S3's DeleteObjects takes."""


def _ignore(_count: int) -> None:
    pass


class Transfers:
    """`parallel` parts in flight over all files; sizes in bytes; `bandwidth` in bytes a second, 0: no cap.

    `reuse`: False sends everything, whatever the stores hold already.
    """

    def __init__(
        self,
        *,
        parallel: int,
        part_size: int,
        bandwidth: int,
        movers: int,
        journal: Journal,
        reuse: bool = True,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._part_size = part_size
        self._pool = MoverPool(movers=movers, threads=parallel, bandwidth=bandwidth)
        self._slots = Slots(parallel)
        self._local = Slots(LOCAL_CALLS)
        self._book = HealthBook()
        self._tallies = Tallies(Tally)
        dispatcher = Dispatcher(self._pool, self._slots, self._book, backoff or Backoff(), self._tallies, sleep=sleep)
        self._ask = dispatcher.ask
        self._reuse = reuse
        self._copies = CopyBook()
        self._uploads = Uploads(dispatcher, journal, parallel, self._tallies)
        self._downloads = Downloads(dispatcher, journal, parallel, self._tallies)
        self._features: dict[Remote, Features] = {}
        self._up = Rate()
        self._down = Rate()
        self._queue = Queue()

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    @property
    def mover_pids(self) -> tuple[int, ...]:
        return self._pool.pids

    @property
    def mover_restarts(self) -> int:
        return self._pool.restarts

    async def probe(self, remote: Remote, *, expect: str | None = None) -> None:
        """One try, so that `up` answers soon. Raises ConfigError or RemoteError, both with a hint.

        `expect` names an object that is in it for sure: without it, it is another one (a file system that is not
        mounted leaves an empty directory), and nothing is made or written there.
        """
        if expect is not None:
            await self.require(remote, expect)
        with spoken(_remote(remote)):
            await self._ask(calls.Probe(remote), remote=remote.name, tries=1)

    async def require(self, remote: Remote, key: str) -> None:
        """One try. Raises RemoteError where the object is not in the remote."""
        with spoken(_remote(remote)):
            try:
                # Its health is not told: that it can be read does not say that it can be written.
                found = await self._ask(calls.Head(remote, key), tries=1)
            except Refused as refused:
                self._gave_up(remote, refused.refusal)
                raise
            if found.stat is None:
                hint = f"mount its file system; if it was emptied on purpose, put '{key}' back"
                refusal = Refusal(BUCKET_MISSING, f"'{key}' is not in it any more: it is not the one it was", hint)
                self._gave_up(remote, refusal)
                raise Refused(refusal)

    def _gave_up(self, remote: Remote, refusal: Refusal) -> None:
        self._book.failed(remote.name, refusal, given_up=True)
        if not self._book.get(remote.name).ok:
            self._tallies[remote.name].failures += 1

    async def upload(
        self,
        remote: Remote,
        key: str,
        path: str,
        stamp: Stamp,
        *,
        journal_key: str,
        on_bytes: Callable[[int], None] = _ignore,
        priority: int = 0,
        reuse: Reusable | None = None,
        owner: int = 0,
    ) -> Uploaded:
        """Makes `path`, whose content is the one `stamp` names, the object at `key`; larger priorities go first.

        Parts that are the same in `reuse` are copied inside the store where it can, and sent where it cannot.
        `on_bytes` gets counts that add up to the size at the end; negative ones take back what has to go again. `owner`: the user
        whose file it is, among whom slots are shared.
        Raises SourceChanged (nothing stays in the store), IntegrityError, RemoteError, ConfigError.
        """
        with spoken(_object(remote, key)), Progress(stamp.size, on_bytes, self._up, self._queue) as progress:
            features = await self._features_of(remote)
            part_size = part_size_for(
                stamp.size, self._part_size, min_part_size=features.min_part_size, max_parts=features.max_parts
            )
            turn = Turn(priority, self._slots.ticket(), _party(remote, owner))
            offer = Offer(reuse if self._reuse else None, remote.name, self._copies)
            job = UploadJob(remote, key, path, stamp, journal_key, part_size, turn, progress, offer)
            return await self._uploads.run(job)

    async def upload_several(self, remote: Remote, files: Sequence[Small], owner: int = 0) -> list[Uploaded | None]:
        """Small files in one call to a mover, in their order; None where one has to be uploaded by itself, which says why.

        One try, and nothing of it in the journal. Raises RemoteError and the like where not even the mover answers.
        """
        total = sum(file.stamp.size for file in files)
        with spoken(_remote(remote)), Progress(total, _ignore, self._up, self._queue) as progress:
            features = await self._features_of(remote)
            turn = Turn(0, self._slots.ticket(), _party(remote, owner))
            call = calls.PutSeveral(remote, tuple(files))
            answer = await self._ask(call, turn=turn, on_bytes=progress.moved, tries=1)
        stored = zip(files, answer.stored, strict=True)
        return [self._sent(remote, features, each.stamp.size, one) for each, one in stored]

    def _sent(self, remote: Remote, features: Features, size: int, stored: calls.Stored | None) -> Uploaded | None:
        if stored is None:
            return None
        self._tallies[remote.name].sent += size
        part_size = part_size_for(
            size, self._part_size, min_part_size=features.min_part_size, max_parts=features.max_parts
        )
        parts = (stored.crc64nvme,) if size else ()
        return Uploaded(stored.etag, Checksums(size, part_size, parts, stored.crc64nvme))

    async def download(
        self,
        remote: Remote,
        key: str,
        staged: str,
        *,
        checksums: Checksums,
        journal_key: str,
        on_bytes: Callable[[int], None] = _ignore,
        on_part: Callable[[int, int], None] = lambda _offset, _length: None,
        priority: int = DOWNLOAD_PRIORITY,
    ) -> None:
        """The object into the new file `staged` (mode 0600), every part checked, flushed to its disk. `on_part` gets offset and
        length of each part that is there, if there are several.

        After RemoteError(retryable=True) or a cancellation the file stays for the same call to go on with; after any
        other error it is gone. Raises NoRoom before the first byte moves, IntegrityError, RemoteError.
        """
        with spoken(_object(remote, key)), Progress(checksums.size, on_bytes, self._down, self._queue) as progress:
            turn = Turn(priority, self._slots.ticket(), remote.name)
            job = DownloadJob(remote, key, checksums, turn, progress, on_part)
            await self._downloads.run(job, staged, journal_key)

    async def take(
        self, remote: Remote, stat: ObjectStat, staged: str,
        *, on_part: Callable[[int, int], None] = lambda _offset, _length: None,
    ) -> Checksums:  # fmt: skip
        """The object of that size and version, of which nobody has said a checksum, into the new file `staged`; the checksum is
        taken on the way, and compared where the store has one. Nothing stays when it fails.

        Raises IntegrityError (also where it is another version by now), NoRoom, RemoteError.
        """
        with spoken(_object(remote, stat.key)), Progress(stat.size, _ignore, self._down, self._queue) as progress:
            features = await self._features_of(remote)
            part_size = part_size_for(
                stat.size, self._part_size, min_part_size=features.min_part_size, max_parts=features.max_parts
            )
            turn = Turn(DOWNLOAD_PRIORITY, self._slots.ticket(), remote.name)
            return await self._downloads.take(TakeJob(remote, stat, part_size, turn, progress, on_part), staged)

    async def verify_remote(
        self, remote: Remote, key: str, checksums: Checksums, on_bytes: Callable[[int], None] = _ignore
    ) -> None:
        """Reads every byte back. IntegrityError names key and part; also when the object is gone or of another size."""
        with spoken(_object(remote, key)), Progress(checksums.size, on_bytes, self._down, self._queue) as progress:
            turn = Turn(VERIFY_PRIORITY, self._slots.ticket(), remote.name)
            await self._downloads.verify(
                DownloadJob(remote, key, checksums, turn, progress, lambda _offset, _length: None)
            )

    async def check_remote_part(self, remote: Remote, key: str, checksums: Checksums, part: Part) -> None:
        """Reads one part back, behind everything else. IntegrityError when it has other bytes or is gone, RemoteError."""
        turn = Turn(SCRUB_PRIORITY, self._slots.ticket(), remote.name)
        call = calls.CheckPart(remote, key, part.number, part.offset, part.length, checksums.parts[part.number - 1])
        with spoken(_object(remote, key)):
            await self._ask(call, remote=remote.name, turn=turn)

    async def verify_local(
        self, path: str, stamp: Stamp, checksums: Checksums, on_bytes: Callable[[int], None] = _ignore
    ) -> None:
        """Reads every byte of a local copy, on as many threads as there are. Raises IntegrityError, SourceChanged."""
        with spoken("checksum"):
            if checksums.size != stamp.size:
                raise Refused(Refusal(CORRUPT, f"'{path}' has {stamp.size} bytes instead of {checksums.size}"))

            async def check(stretch: tuple[int, tuple[int, ...]]) -> None:
                call = calls.CheckStretch(path, stamp, checksums.part_size, *stretch)
                async with self._local.held(0, 0):
                    await self._ask(call, on_bytes=on_bytes)

            await side_by_side(stretches(checksums), check, LOCAL_CALLS)

    async def check_local_stretch(
        self, path: str, stamp: Stamp, part_size: int, first: int, crcs: tuple[int, ...]
    ) -> None:
        """The same for some parts of it, behind everything else. Raises IntegrityError, SourceChanged."""
        with spoken("checksum"):
            async with self._local.held(SCRUB_PRIORITY, 0):
                await self._ask(calls.CheckStretch(path, stamp, part_size, first, crcs, idle=True))

    async def checksum(self, path: str, stamp: Stamp) -> Checksums:
        """Reads a local file. Raises SourceChanged."""
        with spoken("checksum"):
            async with self._local.held(0, 0):
                return await self._ask(calls.Sum(path, stamp, self._part_size))

    async def copy(
        self,
        source: str,
        stamp: Stamp,
        target: str,
        *,
        expect: Checksums | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Checksums:
        """A new file `target` (mode 0600) with the same bytes and holes, on its disk and read back from it.

        Leaves no target behind when it fails. Raises SourceChanged, NoRoom, IntegrityError (the source is not what
        `expect` says, or the copy came out different), CkptdError when the target exists.
        """
        if os.path.lexists(target):
            raise CkptdError(f"copy: '{target}' exists already")
        call = calls.Copy(source, stamp, target, self._part_size, expect)
        with spoken("copy"):
            async with self._local.held(0, 0):
                for _ in range(COPY_TRIES - 1):
                    try:
                        return await self._ask(call, on_bytes=on_bytes, tries=1)
                    except Refused as refused:
                        if refused.refusal.code != MOVER_DIED:
                            raise
                        with suppress(FileNotFoundError):  # what the dead mover had written of it
                            os.unlink(target)
                return await self._ask(call, on_bytes=on_bytes, tries=1)

    async def measure(self, remote: Remote, key: str, path: str, stamp: Stamp) -> tuple[float, float]:
        """Writes one object and reads it back, each in one request of one stream: the seconds of both.

        One try, which says nothing about the remote's health: nobody waits for it. The object
        stays in the store. Raises SourceChanged, IntegrityError, RemoteError.
        """
        turn = Turn(VERIFY_PRIORITY, self._slots.ticket(), remote.name)
        with spoken(_object(remote, key)):
            begun = time.monotonic()
            stored = await self._ask(calls.PutWhole(remote, key, path, stamp), turn=turn, tries=1)
            written = time.monotonic()
            call = calls.CheckPart(remote, key, 1, 0, stamp.size, stored.crc64nvme)
            await self._ask(call, turn=turn, tries=1)
            return written - begun, time.monotonic() - written

    async def get(self, remote: Remote, key: str) -> bytes | None:
        with spoken(_object(remote, key)):
            answer = await self._ask(calls.Get(remote, key), remote=remote.name)
            return answer.data if answer.found else None

    async def put(self, remote: Remote, key: str, data: bytes, *, if_absent: bool = False) -> ObjectStat:
        """A small object in one request. RemoteError of backend_code `precondition`: it is there, with other bytes."""
        with spoken(_object(remote, key)):
            try:
                return await self._ask(calls.Put(remote, key, data, if_absent), remote=remote.name)
            except Refused as refused:
                # A try whose answer got lost may have written it: then the object that is in our way is our own.
                if refused.refusal.code != PRECONDITION or refused.failures == 1:
                    raise
                found = await self._ask(calls.Head(remote, key), remote=remote.name)
                if found.stat is None or await self.get(remote, key) != data:
                    raise
                return found.stat

    async def list(self, remote: Remote, prefix: str) -> list[ObjectStat]:
        """All objects under a prefix, in key order."""
        return [stat async for page in self.pages(remote, prefix) for stat in page]

    async def pages(self, remote: Remote, prefix: str) -> AsyncGenerator[Sequence[ObjectStat], None]:
        """The same, some at a time."""
        after, more = "", True
        with spoken(f"{_remote(remote)}, listing '{prefix}'"):
            while more:
                page = await self._ask(calls.ListPage(remote, prefix, after, PAGE), remote=remote.name)
                yield page.stats
                after, more = page.stats[-1].key if page.stats else "", page.more

    async def head(self, remote: Remote, key: str) -> ObjectStat | None:
        with spoken(_object(remote, key)):
            return (await self._ask(calls.Head(remote, key), remote=remote.name)).stat

    async def delete(self, remote: Remote, keys: Sequence[str]) -> None:
        """Absent keys are fine. They go in the order given, as far as the store keeps one."""
        with spoken(f"{_remote(remote)}, deleting"):
            for start in range(0, len(keys), DELETE_KEYS):
                some = tuple(keys[start : start + DELETE_KEYS])
                await self._ask(calls.Delete(remote, some), remote=remote.name)

    async def abandon(self, remote: Remote, journal_key: str) -> None:
        """Ends an unfinished upload for good: its parts are freed, the journal forgets it."""
        with spoken(f"{_remote(remote)}, an unfinished upload"):
            await self._uploads.abandon(remote, journal_key)

    def report(self) -> TransferReport:
        tallies = self._tallies.values()
        return TransferReport(
            self._up.per_second(), self._down.per_second(), self._queue.bytes,
            sum(tally.sent for tally in tallies), sum(tally.copied for tally in tallies),
        )  # fmt: skip

    def tally(self, remote_name: str) -> Tally:
        """Of this moment."""
        return replace(self._tallies[remote_name])

    def health(self, remote_name: str) -> Health:
        return self._book.get(remote_name)

    async def _features_of(self, remote: Remote) -> Features:
        if remote not in self._features:
            self._features[remote] = await self._ask(calls.Describe(remote), remote=None)
        return self._features[remote]


def _remote(remote: Remote) -> str:
    return f"remote '{remote.name}' ({remote.url})"


def _party(remote: Remote, owner: int) -> str:
    return f"{remote.name}/{owner}" if owner else remote.name


def _object(remote: Remote, key: str) -> str:
    return f"remote '{remote.name}', key '{key}'"
