"""Notes what becomes of checkpoints: when they were saved, when they were durable, and that one was torn or lost.

How long a save took is seen from outside: from the first file that appeared to the last that was closed. What the job does
before (copying to memory, serialising) and after is not in it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ckptd.catalog import FileRow, UnitName
from ckptd.domain.errors import StateUnusable
from ckptd.domain.history import Save
from ckptd.domain.model import CheckpointState
from ckptd.engine.context import Context
from ckptd.engine.unit import Unit

_ROUNDED_S = 0.001
"""Manifests say times in milliseconds."""


class Milestones:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._history = context.catalog.history
        self._states: dict[UnitName, CheckpointState] | None = None
        """As the last look saw them; None before the first."""
        self._recording = asyncio.Lock()
        """A checkpoint may be committed while the look that saw it complete records it."""

    async def load(self) -> None:
        for volume in self._context.volumes:
            await self._tell_last(volume)

    async def look(self, units: Mapping[UnitName, Unit]) -> None:
        states = {key: unit.state for key, unit in units.items()}
        before, self._states = self._states, states
        known = before or {}
        for key in [key for key, state in states.items() if known.get(key) is not state]:  # few, of many
            unit = units[key]
            if unit.step is None:
                continue
            if before is not None:
                self._became(unit, before.get(key))
            if unit.state is CheckpointState.COMPLETE and (save := saved(unit, unit.mine)) is not None:
                await self._record(save)

    def _became(self, unit: Unit, before: CheckpointState | None) -> None:
        if before is not None or unit.state is not CheckpointState.COMMITTED:  # else it was only heard of in the remote
            self._context.meters.transitions.labels(unit.volume, unit.state).inc()

    async def durable(self, unit: Unit, rows: Sequence[FileRow], at: float, copied: int) -> None:
        """The manifest of this node was written; `rows` is what it describes."""
        save = saved(unit, rows)
        if save is None:
            return
        await self._record(replace(save, durable_at=at, copied=copied))
        self._context.meters.commit.labels(unit.volume).observe(max(0.0, at - save.ended_at))

    async def _record(self, save: Save) -> None:
        async with self._recording:
            with contextlib.suppress(StateUnusable):  # its disk is full: a report lacks it, nothing else does
                await self._recorded(save)

    async def _recorded(self, save: Save) -> None:
        known = await self._history.save(save.volume, save.run, save.step)
        if known is not None and known.began_at == save.began_at:
            if known.durable_at is not None:
                return  # its manifest is written again, or a file of it was: the save itself was measured
        elif save.began_at is not None:
            self._context.meters.save.labels(save.volume).observe(max(0.0, save.ended_at - save.began_at))
        await self._history.saved(save)
        await self._tell_last(save.volume)

    async def _tell_last(self, volume: str) -> None:
        last = await self._history.last(volume)
        meters = self._context.meters
        meters.last_commit.labels(volume).set(await self._history.durable_until(volume))
        meters.last_save.labels(volume).set(last[-1].ended_at if last else 0.0)
        meters.save_interval.labels(volume).set(last[-1].ended_at - last[-2].ended_at if len(last) > 1 else 0.0)


def saved(unit: Unit, rows: Sequence[FileRow]) -> Save | None:
    """None for what was not saved here: a manifest described it before, and is gone; what was fetched then is sent again."""
    files = [row for row in rows if row.link is None and row.id not in unit.aside]
    if not files or unit.step is None:
        return None
    begun = [row.began_at for row in files if row.began_at is not None]
    ended_at = max(row.changed_at for row in files)
    if not begun and any(one.written_at >= ended_at - _ROUNDED_S for one in unit.went.values()):
        return None
    began_at = min(begun) if len(begun) == len(files) else None
    return Save(unit.volume, unit.run, unit.step, began_at, ended_at, sum(row.size for row in files))
