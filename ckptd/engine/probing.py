"""Measures now and then what a remote does without ckptd: one object is written to it, read back and deleted.

Reports compare with that (`policy.accounting`). It is done at most once a period, only on a volume in which something was saved
since the last time, only while nobody else works, and under the same cap on bandwidth as all transfers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import zlib

import structlog

from ckptd.domain.errors import CkptdError
from ckptd.domain.history import Probe
from ckptd.domain.model import Stamp
from ckptd.engine.context import Context
from ckptd.engine.idleness import Idleness
from ckptd.engine.volume import Tier, Volume

log = structlog.get_logger()

SIZE = 64 << 20
"""Bytes: long enough for one stream to come to speed, and nothing beside a checkpoint."""
FIRST_S = 600.0
"""A node that has just started has other things to do; short-lived daemons never probe."""
SPREAD_S = 3600.0
"""Nodes that start together do not probe together."""
_LOOK_S = 30.0
_AGAIN_S = 3600.0
"""After one that failed."""
_BLOCK = 1 << 20


class Probing:
    def __init__(self, context: Context, idleness: Idleness, every_s: float) -> None:
        """`every_s` 0: never."""
        self._context = context
        self._idleness = idleness
        self._every_s = every_s
        self._not_before: dict[str, float] = {}
        """By volume, by the loop's clock."""

    async def run(self) -> None:
        every = self._every_s
        if not every:
            return
        self._clear()
        await asyncio.sleep(min(every, FIRST_S) + min(every, SPREAD_S) * _share(self._context.node))
        while True:
            for volume in self._context.volumes.values():
                try:
                    await self._look(volume)
                except (CkptdError, OSError) as error:
                    log.info("probe.failed", volume=volume.name, error=str(error))
            await asyncio.sleep(min(_LOOK_S, every))

    def _clear(self) -> None:
        """What a killed worker was just measuring with."""
        for tier in self._context.tiers.values():
            for volume in self._context.volumes:
                with contextlib.suppress(OSError):
                    os.unlink(_staged(tier, volume))

    async def _look(self, volume: Volume) -> None:
        context = self._context
        history = context.catalog.history
        last, saves = await history.probe(volume.name), await history.last(volume.name)
        last_at = 0.0 if last is None else last.at
        if not saves or saves[-1].ended_at <= last_at or 0 <= context.clock() - last_at < self._every_s:
            return
        now = asyncio.get_running_loop().time()
        if now < self._not_before.get(volume.name, 0.0):
            return
        if volume.name in context.unmet or not context.transfers.health(volume.remote.name).ok or self._idleness.busy():
            return
        tier = self._idleness.tier_with_room(SIZE)
        if tier is not None:
            self._not_before[volume.name] = now + min(self._every_s, _AGAIN_S)
            await history.probed(await self._probe(volume, tier))

    async def _probe(self, volume: Volume, tier: Tier) -> Probe:
        """A kill in the middle leaves an object that is known to be a leftover, and is deleted as such."""
        context = self._context
        key, path, leftovers = f".ckptd/probe/{context.node}", _staged(tier, volume.name), context.catalog.manifests
        context.deleting.add(key)  # not by the sweep of leftovers, while it is measured
        try:
            stamp = await asyncio.to_thread(_fill, path)
            await leftovers.leave(volume.name, [key])
            write_s, read_s = await context.transfers.measure(volume.remote, key, path, stamp)
            await context.transfers.delete(volume.remote, [key])
            await leftovers.cleared(volume.name, [key])
        finally:
            context.deleting.discard(key)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        log.info("probe.done", volume=volume.name, write_s=round(write_s, 3), read_s=round(read_s, 3))
        return Probe(volume.name, context.clock(), SIZE, write_s, read_s)


def _staged(tier: Tier, volume: str) -> str:
    return tier.staged(f"probe-{volume}")


def _share(node: str) -> float:
    """Of the spread, by the node's name: from 0 to 1."""
    return zlib.crc32(node.encode()) / 2**32


def _fill(path: str) -> Stamp:
    """Random bytes: nothing on the way can make them fewer."""
    with open(path, "wb") as file:
        file.writelines(os.urandom(_BLOCK) for _ in range(SIZE // _BLOCK))
        file.flush()
        status = os.fstat(file.fileno())
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
