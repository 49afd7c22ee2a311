"""A job opens a file that is only in the remote: brings it, for as many as wait for it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping
from typing import NamedTuple

from ckptd.catalog import PinRow
from ckptd.domain.errors import CkptdError, IntegrityError, NoRoom, NotKnown
from ckptd.domain.model import Attributes, Place
from ckptd.domain.names import key_of
from ckptd.engine.context import Context
from ckptd.engine.doubting import Member
from ckptd.engine.hydrating import Hydrating, OnPart
from ckptd.engine.known import UnitKey
from ckptd.engine.prefetching import Prefetching
from ckptd.engine.resumes import Resumes
from ckptd.engine.volume import Volume
from ckptd.layouts import locate
from ckptd.tiers import swap
from ckptd.tiers.beneath import unlink_link
from ckptd.tiers.stub import Stub
from ckptd.tiers.stub import read as read_stub

KEPT_S = 600.0
"""How long a checkpoint of which a file was opened stays hot: the next file of it is opened soon."""
_SHARE = 2
"""Checkpoints that are kept so hold at most half of the RAM tier: who reads many must not lock himself out of the next."""


_TRIES = 3


class _Kept(NamedTuple):
    bytes: int
    """Opened of it."""
    until: float | None
    """Of the pin that was made for it."""


class Opening:
    def __init__(self, context: Context, prefetching: Prefetching, hydrating: Hydrating, resumes: Resumes) -> None:
        self._context = context
        self._hydrating = hydrating
        self._resumes = resumes
        self._prefetching = prefetching
        self._pinning = asyncio.Lock()
        self._kept: dict[UnitKey, _Kept] = {}
        """Checkpoints that are pinned because they were opened; the longest ago first."""

    async def bring(self, volume: Volume, path: str, on_part: OnPart) -> int:
        """Returns 0 when the file is in its place, else the errno that `open` is to give. Never raises."""
        began_at = self._context.clock()
        try:
            member = await self._member(volume, path)
            if member is None:
                volume.fetching.add(path)
                await self._plain(volume, path, on_part)
            else:
                await self._keep(volume, path, member.size)
                await self._prefetching.bring(volume, member, on_part)
        except CkptdError as error:
            await self._context.event(
                "error", "open.failed", f"{path} cannot be fetched: {error.message}",
                volume=volume.name, path=path, hint=error.hint,
            )  # fmt: skip
            if isinstance(error, NotKnown) and (stub := swap.stub_at(volume.root, path)) is not None:
                volume.taken_away.add(path)
                unlink_link(volume.root, path, stub)  # it stood for nothing
                return errno.ENOENT
            return errno.ENOSPC if isinstance(error, NoRoom) else errno.EIO
        finally:
            volume.fetching.discard(path)
        if member is not None:
            await self._resumes.opened(volume.name, path, began_at, member.size)
        return 0

    def wants_room(self, size: int, seconds: float) -> None:
        """A writer waits for room in memory: the planner makes some, if it can."""
        wanted = self._context.wanted
        wanted[Place.RAM] = wanted.get(Place.RAM, 0) + size
        self._context.wake()

        async def until_then() -> None:
            try:
                await asyncio.sleep(seconds)
            finally:
                wanted[Place.RAM] -= size

        self._context.spawn(until_then(), "room for a writer")

    async def _plain(self, volume: Volume, path: str, on_part: OnPart) -> None:
        """No manifest describes it. What the store says now counts, and what was shown if that is still so."""
        for left in reversed(range(_TRIES)):
            try:
                await self._plain_as_it_is(volume, path, on_part)
            except IntegrityError:  # somebody has replaced it meanwhile
                if not left:
                    raise
            else:
                return

    async def _plain_as_it_is(self, volume: Volume, path: str, on_part: OnPart) -> None:
        stub, fetched = _stub(volume, path), await self._context.catalog.files.at(volume.name, path)
        if stub is None or not (volume.plain is None or path in volume.plain or fetched):
            raise NotKnown(f"nothing in the remote is shown as {path}", hint="see: ckptctl ls")
        stat = await self._context.transfers.head(volume.remote, key_of(path))
        if stat is None:
            raise NotKnown(f"{path} is not in the remote any more", hint="somebody has deleted it there")
        mtime_ns = stub.mtime_ns if stat.size == stub.size else int(stat.modified * 1e9)
        place = await self._prefetching.room(volume, Place.RAM, stat.size)
        attributes = Attributes(stub.mode, stub.uid, stub.gid, mtime_ns)
        await self._hydrating.plain(volume, stat, attributes, place, on_part)

    async def _member(self, volume: Volume, path: str) -> Member | None:
        """None for what no manifest describes."""
        row = await self._context.catalog.files.at(volume.name, path)
        if row is not None:
            return None if row.plain and row.local() is None else row
        where = locate(path)
        unit = None if where.step is None else self._context.known.of(volume.name, where.run, where.step)
        return None if unit is None else unit.entries().get(path)

    async def _keep(self, volume: Volume, path: str, size: int) -> None:
        """Else the planner might let it go before the job has it open."""
        where = locate(path)
        if where.step is None:
            return
        wishes = self._context.catalog.wishes
        async with self._pinning:
            its = (volume.name, where.run, where.step)
            pins = {(pin.volume, pin.run, pin.step): pin.until for pin in await wishes.pins()}
            until = self._context.clock() + KEPT_S
            before = self._kept.pop(its, _Kept(0, None))
            if pins.get(its, before.until) != before.until:
                return  # a user wants it, and for longer
            self._kept[its] = _Kept(before.bytes + size, until)
            await self._make_way(its, pins)
            await wishes.pin(PinRow(*its, Place.RAM, until))

    async def _make_way(self, its: UnitKey, pins: Mapping[UnitKey, float | None]) -> None:
        """Those that were opened longest ago are kept no more, if all together hold too much."""
        ram = self._context.tiers.get(Place.RAM)
        most = 0 if ram is None else ram.effective // _SHARE
        for other, kept in list(self._kept.items()):
            over = pins.get(other, 0.0) != kept.until  # its time, or a user has said something else since
            if other == its or (not over and sum(one.bytes for one in self._kept.values()) <= most):
                continue
            del self._kept[other]
            if not over:
                await self._context.catalog.wishes.unpin(*other)


def _stub(volume: Volume, path: str) -> Stub | None:
    target = swap.stub_at(volume.root, path)
    return None if target is None else read_stub(os.fsencode(target))
