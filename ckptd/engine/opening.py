"""A job opens a file that is only in the remote: brings it, for as many as wait for it."""

from __future__ import annotations

import asyncio
import errno

from ckptd.catalog import PinRow
from ckptd.domain.errors import CkptdError, NoRoom, NotKnown
from ckptd.domain.model import Place
from ckptd.engine.context import Context
from ckptd.engine.doubting import Member
from ckptd.engine.prefetching import Prefetching
from ckptd.engine.volume import Volume
from ckptd.layouts import locate
from ckptd.tiers import swap
from ckptd.tiers.beneath import unlink_link

KEPT_S = 600.0
"""How long a checkpoint of which a file was opened stays hot at least: the next file of it is opened soon."""


class Opening:
    def __init__(self, context: Context, prefetching: Prefetching) -> None:
        self._context = context
        self._prefetching = prefetching
        self._pinning = asyncio.Lock()

    async def bring(self, volume: Volume, path: str) -> int:
        """Returns 0 when the file is in its place, else the errno that `open` is to give. Never raises."""
        try:
            member = await self._member(volume, path)
            await self._keep(volume, path)
            await self._prefetching.bring(volume, member)
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
        return 0

    async def _member(self, volume: Volume, path: str) -> Member:
        row = await self._context.catalog.files.at(volume.name, path)
        if row is not None:
            return row
        where = locate(path)
        unit = None if where.step is None else self._context.known.of(volume.name, where.run, where.step)
        entry = None if unit is None else unit.entries().get(path)
        if entry is None:
            raise NotKnown(f"no committed checkpoint has {path}", hint="see: ckptctl ls")
        return entry

    async def _keep(self, volume: Volume, path: str) -> None:
        """Else the planner might let it go before the job has it open."""
        where = locate(path)
        if where.step is None:
            return
        wishes = self._context.catalog.wishes
        async with self._pinning:
            its = (volume.name, where.run, where.step)
            pins = [pin for pin in await wishes.pins() if (pin.volume, pin.run, pin.step) == its]
            until = self._context.clock() + KEPT_S
            if not any(pin.until is None or pin.until >= until - KEPT_S / 2 for pin in pins):
                await wishes.pin(PinRow(*its, Place.RAM, until))
