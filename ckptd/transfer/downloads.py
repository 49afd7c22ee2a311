"""Store → tier, one file, into its staging place; and reading a remote copy back without keeping it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ckptd.domain.model import Checksums, PartDone, Unfinished
from ckptd.transfer import calls
from ckptd.transfer.dispatch import Dispatcher, Turn
from ckptd.transfer.journal import Journal
from ckptd.transfer.progress import Progress, Tallies
from ckptd.transfer.refusal import CHECKSUM, Refusal, Refused
from ckptd.transfer.side_by_side import side_by_side
from ckptd.transfer.split import Part, parts_of


@dataclass(frozen=True, slots=True)
class DownloadJob:
    remote: calls.Remote
    key: str
    checksums: Checksums
    turn: Turn
    progress: Progress
    on_part: Callable[[int, int], None]
    """Offset and length of each part that is in the staged file and was checked."""

    def crc_of(self, part: Part) -> int:
        return self.checksums.parts[part.number - 1]

    def all_parts(self) -> tuple[Part, ...]:
        return tuple(parts_of(self.checksums.size, self.checksums.part_size))


@dataclass(frozen=True, slots=True)
class TakeJob:
    """An object of which only its listing speaks."""

    remote: calls.Remote
    stat: calls.ObjectStat
    part_size: int
    turn: Turn
    progress: Progress
    on_part: Callable[[int, int], None]


class Downloads:
    def __init__(self, dispatcher: Dispatcher, journal: Journal, width: int, tallies: Tallies) -> None:
        self._ask = dispatcher.ask
        self._journal = journal
        self._width = width
        self._tallies = tallies

    async def run(self, job: DownloadJob, staged: str, journal_key: str) -> None:
        """What can be gone on with later (store unreachable, cancelled) stays in `staged`; what cannot is removed."""
        try:
            if len(job.checksums.parts) <= 1:
                await self._whole(job, staged)
            else:
                await self._in_parts(job, staged, journal_key)
        except Refused as refused:
            if not refused.refusal.retryable or refused.refusal.code == CHECKSUM:
                with suppress(OSError):
                    os.unlink(staged)
                await self._journal.forget(journal_key)
            raise

    async def take(self, job: TakeJob, staged: str) -> Checksums:
        """Without a journal: what was begun is begun anew. Nothing stays in `staged` when it fails."""
        stat = job.stat
        crcs: dict[int, int] = {}

        async def fetch(part: Part) -> None:
            call = calls.TakePart(job.remote, stat.key, staged, part.offset, part.length, stat.etag)
            taken = await self._ask(call, remote=job.remote.name, turn=job.turn, on_bytes=job.progress.moved)
            crcs[part.number] = taken.crc64nvme
            job.on_part(part.offset, part.length)

        try:
            await self._ask(calls.Allocate(staged, Checksums(stat.size, job.part_size, (), 0), "", ()))
            await side_by_side(parts_of(stat.size, job.part_size), fetch, self._width)
            parts = tuple(crcs[number] for number in sorted(crcs))
            sums = await self._ask(calls.SealTaken(staged, stat.size, job.part_size, parts))
            _compare(stat, sums)
        except BaseException:
            with suppress(OSError):
                os.unlink(staged)
            raise
        return sums

    async def verify(self, job: DownloadJob) -> None:
        found = (await self._ask(calls.Head(job.remote, job.key), remote=job.remote.name)).stat
        if found is None:
            raise Refused(Refusal(CHECKSUM, "the object is gone"))
        if found.size != job.checksums.size:
            raise Refused(Refusal(CHECKSUM, f"the object has {found.size} bytes instead of {job.checksums.size}"))

        async def check(part: Part) -> None:
            call = calls.CheckPart(job.remote, job.key, part.number, part.offset, part.length, job.crc_of(part))
            await self._ask_for(job, call)

        await side_by_side(job.all_parts(), check, self._width)

    async def _whole(self, job: DownloadJob, staged: str) -> None:
        sums = job.checksums
        crc = sums.parts[0] if sums.parts else 0
        if crc != sums.whole:
            raise Refused(Refusal(CHECKSUM, "the checksum of its only part is not that of the whole"))
        await self._ask_for(job, calls.ReadWhole(job.remote, job.key, staged, sums.size, crc))
        self._tallies[job.remote.name].received += sums.size

    async def _in_parts(self, job: DownloadJob, staged: str, journal_key: str) -> None:
        sums = job.checksums
        good = await self._begun(job, staged, journal_key)
        parts = job.all_parts()
        job.progress.known(sum(part.length for part in parts if part.number in good))
        for part in parts:
            if part.number in good:
                job.on_part(part.offset, part.length)

        async def fetch(part: Part) -> None:
            crc = job.crc_of(part)
            call = calls.ReadPart(job.remote, job.key, staged, part.number, part.offset, part.length, crc)
            await self._ask_for(job, call)
            self._tallies[job.remote.name].received += part.length
            job.on_part(part.offset, part.length)
            await self._journal.part_done(journal_key, PartDone(part.number, part.length, "", crc))

        await side_by_side((part for part in parts if part.number not in good), fetch, self._width)
        await self._ask(calls.Seal(staged, sums))
        await self._journal.forget(journal_key)

    async def _begun(self, job: DownloadJob, staged: str, journal_key: str) -> frozenset[int]:
        """Reserves the staged file; the numbers of the parts that are in it already."""
        sums = job.checksums
        old = await self._journal.load(journal_key)
        prefix = f"download {sums.whole:016x} "
        identity = ""
        done: tuple[int, ...] = ()
        if old and old.detail.startswith(prefix) and (old.size, old.part_size) == (sums.size, sums.part_size):
            identity = old.detail.removeprefix(prefix)
            done = tuple(part.number for part in old.parts)
        allocated = await self._ask(calls.Allocate(staged, sums, identity, done))
        if allocated.identity != identity:
            new = Unfinished("", sums.part_size, sums.size, (), prefix + allocated.identity)
            await self._journal.begin(journal_key, new)
        return frozenset(allocated.good)

    async def _ask_for(self, job: DownloadJob, call: calls.Call[calls.Done]) -> None:
        await self._ask(call, remote=job.remote.name, turn=job.turn, on_bytes=job.progress.moved)


def _compare(stat: calls.ObjectStat, sums: Checksums) -> None:
    if stat.crc64nvme not in (None, sums.whole):
        raise Refused(
            Refusal(CHECKSUM, f"it came with checksum {sums.whole:016x}, and the store says {stat.crc64nvme:016x}")
        )
