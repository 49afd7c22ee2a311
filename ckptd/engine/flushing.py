"""Waits until everything named is durable and committed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from ckptd.domain.errors import NotKnown
from ckptd.domain.model import CheckpointState
from ckptd.domain.names import CheckpointId
from ckptd.engine.context import Context
from ckptd.engine.operations import Progress
from ckptd.engine.reconciler import Reconciler
from ckptd.engine.unit import Unit, settled, skipped
from ckptd.engine.uploading import Uploading
from ckptd.policy.policy import Sync


class Flushing:
    def __init__(self, context: Context, reconciler: Reconciler, uploading: Uploading) -> None:
        self._context = context
        self._reconciler = reconciler
        self._uploading = uploading

    async def flush(self, progress: Progress, said: Callable[[], str] | None = None) -> None:
        """A torn or lost checkpoint counts as flushed once its files are durable: it can never be committed.

        `said`: what to tell beside the figures, after every look. Raises NotKnown for a run or checkpoint that does not exist.
        """
        await self._context.catch_up()
        with self._asked_for(progress):
            await self._reconciler.look()
            self._context.retries.clear()  # a user waits: try at once what waited for its next attempt
            self._context.wake()
            await self._wait(progress, said)

    @contextlib.contextmanager
    def _asked_for(self, progress: Progress) -> Iterator[None]:
        """The one checkpoint that is named, if one is: it is sent even if `sync = latest` would skip it."""
        operation, flushed = progress.operation, self._context.flushed
        target = CheckpointId.parse(operation.target) if operation.target else None
        if target is None or target.step is None:
            yield
            return
        its = (operation.volume, target.run, target.step)
        flushed[its] += 1
        try:
            yield
        finally:
            flushed[its] -= 1
            if not flushed[its]:
                del flushed[its]
            self._context.wake()

    async def _wait(self, progress: Progress, said: Callable[[], str] | None) -> None:
        at_start: int | None = None
        first = True
        while True:
            units = self._meant(progress)
            named = bool(progress.operation.target)
            exposed = [unit for unit in units if self.open(unit, whole=named)]
            left = sum(unit.bytes - unit.durable_bytes for unit in exposed)
            at_start = max(left, at_start or 0)
            sent = sum(self._uploading.sent.get(row.id, 0) for unit in exposed for row in unit.rows)
            progress.total, progress.done = at_start, max(0, at_start - left + min(sent, left))
            progress.result = said() if said else self._waited_for(exposed)
            if first:
                progress.before, first = progress.done, False
            if not exposed:
                return
            async with self._context.changed:
                await self._context.changed.wait()

    @staticmethod
    def _waited_for(exposed: Sequence[Unit]) -> str | None:
        """For the message, should the time be over: what other nodes are to bring."""
        waiting = [f"{unit.run}@{unit.step}: {unit.reason}" for unit in exposed if unit.part and unit.part_committed]
        return waiting[-1] if waiting else None

    def _meant(self, progress: Progress) -> Sequence[Unit]:
        operation, view = progress.operation, self._reconciler.view
        if not operation.target:
            return [unit for unit in view.units if operation.volume in ("", unit.volume)]
        target = CheckpointId.parse(operation.target)
        units = view.run(operation.volume, target.run)
        if target.step is not None:
            units = [unit for unit in units if unit.step == target.step]
        if not units:
            raise NotKnown(
                f"there is no {'checkpoint' if target.step is not None else 'run'} {target}", hint="see: ckptctl ls"
            )
        return units

    def open(self, unit: Unit, *, whole: bool = True) -> bool:
        """Whether something of it is still to be made durable. `whole`: it is asked for by name, so by other nodes too, of what
        is also written here.
        """
        policy = self._reconciler.view.policies[unit.volume, unit.run]
        if skipped(unit, policy) or unit.state is CheckpointState.LOST or unit.taken:
            return False
        if not unit.rows or (unit.part_committed and not whole):
            return False
        if not whole and (unit.volume, unit.run) in self._context.foreign:
            return False  # it is never sent: nobody must keep the node from ending by it
        if unit.state is CheckpointState.TORN and (policy.sync is Sync.LATEST or unit.committed is not None):
            return False  # never sent: by policy, or because the remote still has the whole one that it was
        mine = [row for row in unit.rows if row.id not in unit.aside]
        exposed = [row for row in mine if not row.durable and (settled(row) or not row.closed)]
        if any(not self._reconciler.view.held(row) for row in exposed):
            return True
        return unit.step is not None and (unit.addition or unit.state) in (
            CheckpointState.COMPLETE,
            CheckpointState.WRITING,
        )
