"""The mover processes: kept running, and each call given to the one with the least to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import structlog

from ckptd.domain.errors import CkptdError
from ckptd.transfer.calls import Call
from ckptd.transfer.process import MoverProcess
from ckptd.transfer.refusal import Refused

Answer = TypeVar("Answer")

RESTART_S = (0.05, 5.0)
"""First and longest wait before a mover is started again; doubled while they die young."""
_YOUNG_S = 30.0

_log = structlog.get_logger(__name__)


class MoverPool:
    """`threads` parts at a time in each mover; `bandwidth` bytes a second over all of them, 0: no cap."""

    def __init__(self, *, movers: int, threads: int, bandwidth: int) -> None:
        self._count = movers
        self._threads = threads
        self._bandwidth = bandwidth
        self._live: list[MoverProcess] = []
        self._some_live = asyncio.Event()
        self._keepers: asyncio.TaskGroup
        self._tasks: list[asyncio.Task[None]] = []
        self.restarts = 0

    async def __aenter__(self) -> Self:
        """Returns when all movers are ready; raises CkptdError when one cannot be started at all."""
        ready = [asyncio.get_running_loop().create_future() for _ in range(self._count)]
        self._keepers = await asyncio.TaskGroup().__aenter__()
        self._tasks = [self._keepers.create_task(self._keep(each)) for each in ready]
        try:
            await asyncio.gather(*ready)
        except BaseException as error:
            await self._stop()
            if isinstance(error, Refused):
                raise CkptdError(error.refusal.message, hint=error.refusal.hint) from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(mover.pid for mover in self._live)

    async def call(self, call: Call[Answer], on_bytes: Callable[[int], None] | None = None) -> Answer:
        """Raises Refused, among others with MOVER_DIED."""
        while not self._live:
            await self._some_live.wait()
        mover = min(self._live, key=lambda each: each.load(call.lane))
        return await mover.ask(call, on_bytes)

    async def _keep(self, ready: asyncio.Future[None]) -> None:
        """One place of the pool, for as long as the pool lives."""
        wait, longest = RESTART_S
        while True:
            mover = MoverProcess(self._threads)
            began = asyncio.get_running_loop().time()
            try:
                await mover.start()
            except Refused as refused:
                if not ready.done():
                    ready.set_exception(refused)
                    return
                _log.warning("mover.not_started", error=refused.refusal.message)
            else:
                if not ready.done():
                    ready.set_result(None)
                await self._serve(mover)
            if asyncio.get_running_loop().time() - began > _YOUNG_S:
                wait = RESTART_S[0]
            await asyncio.sleep(wait)
            wait = min(longest, wait * 2)
            self.restarts += 1

    async def _serve(self, mover: MoverProcess) -> None:
        mover.set_rate(self._bandwidth / self._count)
        self._live.append(mover)
        self._some_live.set()
        try:
            status = await mover.run()
            _log.warning("mover.died", pid=mover.pid, status=status)
        finally:
            self._live.remove(mover)
            if not self._live:
                self._some_live.clear()
            await mover.stop()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._keepers.__aexit__(None, None, None)
