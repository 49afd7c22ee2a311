"""Looks for other nodes' manifests of checkpoints that this node has a part of: only while something is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog

from ckptd.domain.errors import CkptdError
from ckptd.domain.model import CheckpointState
from ckptd.engine.comparing import Comparing
from ckptd.engine.context import Context
from ckptd.engine.known import UnitKey
from ckptd.engine.reconciler import Reconciler
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume

log = structlog.get_logger()

LOOK_S = (1.0, 15.0)
"""First and longest wait between two looks for one checkpoint; doubled in between."""
_PAUSE_S = 0.25


@dataclass(slots=True)
class _Wait:
    pause: float
    due: float
    """By the loop's clock."""


class Companions:
    """Of one volume: a remote that does not answer must not keep another's from being looked into."""

    def __init__(self, context: Context, reconciler: Reconciler, volume: Volume) -> None:
        self._context = context
        self._reconciler = reconciler
        self._volume = volume
        self._waits: dict[UnitKey, _Wait] = {}
        self._comparing = Comparing(context, volume, _nothing)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_PAUSE_S)
            now = loop.time()
            units = [unit for unit in self._reconciler.view.units if unit.volume == self._volume.name]
            wanted = {its: unit for unit in units if (its := _key(unit)) and waits(unit)}
            await self._tell_whole(wanted)
            for unit in units:
                if unit.aside:
                    self._compare(unit)
            for its in wanted:
                wait = self._waits.setdefault(its, _Wait(LOOK_S[0], now + LOOK_S[0]))
                if wait.due <= now:
                    await self._look(its)
                    wait.pause = min(LOOK_S[1], wait.pause * 2)
                    wait.due = loop.time() + wait.pause

    def _compare(self, unit: Unit) -> None:
        """Files that another node has committed too: the same content is durable already, other content is not sent."""
        entries = {} if unit.committed is None else unit.committed.entries()
        for row in unit.rows:
            entry = entries.get(row.path)
            if row.id not in unit.aside or row.checksums is not None or row.id in self._context.files:
                continue
            if entry is not None and entry.checksums is not None and row.local() is not None:
                self._comparing.begin(row, entry.checksums, entry)

    async def _look(self, its: UnitKey) -> None:
        context, volume = self._context, self._volume
        if volume.name in context.unmet or not context.transfers.health(volume.remote.name).ok:
            return
        before = context.known.of(*its)
        try:
            await context.known.refresh(volume, *its[1:])
        except CkptdError as error:
            log.info("companions.not_asked", run=its[1], step=its[2], error=error.message)
        if context.known.of(*its) is not before:
            self._waits.pop(its, None)  # they are at work: look soon again
            context.wake()

    async def _tell_whole(self, wanted: Collection[UnitKey]) -> None:
        for its in [its for its in self._waits if its not in wanted]:
            del self._waits[its]
            unit = self._reconciler.view.unit(*its)
            if unit is None or unit.committed is None or unit.state is not CheckpointState.COMMITTED:
                continue
            nodes = ", ".join(sorted(unit.committed.fitting))
            await self._context.event(
                "info", "checkpoint.committed", f"{its[1]}@{its[2]} is durable on all nodes: {nodes}",
                volume=its[0], run=its[1], step=its[2], bytes=unit.bytes,
            )  # fmt: skip


async def _nothing(_: Sequence[str]) -> None:
    """What is compared with another node's file is not new by being different."""


def _key(unit: Unit) -> UnitKey | None:
    return None if unit.step is None else (unit.volume, unit.run, unit.step)


def waits(unit: Unit) -> bool:
    """Whether this node has done its part, and the rest is not there; or its manifest went, and nobody knows why."""
    if unit.state is CheckpointState.WRITING:
        return unit.part is not None and unit.part_committed
    return unit.state is CheckpointState.TORN and unit.withdrawn and len(unit.went) > 1
