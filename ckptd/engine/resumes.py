"""Notes how checkpoints become hot that somebody asks for: where they were, and how long it took."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ckptd.domain.errors import StateUnusable
from ckptd.domain.history import Resume
from ckptd.domain.model import Place
from ckptd.engine.context import Context
from ckptd.engine.doubting import Member
from ckptd.engine.known import UnitKey
from ckptd.engine.unit import Unit
from ckptd.layouts import locate
from ckptd.manifest import ManifestEntry

TOGETHER_S = 60.0
"""Cold files of one checkpoint that are opened with no longer pause between them are one resume."""


def slowest(members: Iterable[Member]) -> Place:
    """Where the slowest of some files is: what waits for all of them waits for that one."""
    found = Place.RAM
    for member in members:
        if member.link is not None:
            continue
        local = None if isinstance(member, ManifestEntry) else member.local()
        if local is None:
            return Place.REMOTE
        if local.place is Place.NVME:
            found = Place.NVME
    return found


def members_of(unit: Unit) -> list[Member]:
    """What there is to bring: open files are the job's present business."""
    return [*(row for row in unit.rows if row.closed), *unit.cold.values()]


@dataclass(slots=True)
class _Burst:
    id: int
    resume: Resume


class Resumes:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._bursts: dict[UnitKey, _Burst] = {}

    def looked_up(self, volume: str, by: str, tier: Place) -> None:
        self._context.meters.lookups.labels(volume, by, tier).inc()

    async def prefetched(self, resume: Resume) -> None:
        self._context.meters.prefetch.labels(resume.volume).observe(_took(resume))
        await self._record(resume)

    async def opened(self, volume: str, path: str, began_at: float, size: int) -> None:
        """A cold file that a job opened is here."""
        now = self._context.clock()
        self._context.meters.open.labels(volume).observe(max(0.0, now - began_at))
        where = locate(path)
        if where.step is None:
            return
        its = (volume, where.run, where.step)
        self._bursts = {key: one for key, one in self._bursts.items() if now - one.resume.ended_at <= TOGETHER_S}
        burst = self._bursts.get(its)
        if burst is None:
            self.looked_up(volume, "open", Place.REMOTE)
            burst = self._bursts[its] = _Burst(0, Resume(*its, began_at, now, 0, 0, Place.REMOTE, "open"))
        known = burst.resume
        burst.resume = replace(
            known, began_at=min(known.began_at, began_at), ended_at=now, bytes=known.bytes + size, fetched=known.fetched + size
        )  # fmt: skip
        burst.id = await self._record(burst.resume, burst.id)

    async def _record(self, resume: Resume, id_: int = 0) -> int:
        with contextlib.suppress(StateUnusable):  # its disk is full: a report lacks it, nothing else does
            return await self._context.catalog.history.resumed(resume, id_=id_ or None)
        return id_


def _took(resume: Resume) -> float:
    return max(0.0, resume.ended_at - resume.began_at)
