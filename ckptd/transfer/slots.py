"""The parts in flight over all files: a semaphore whose waiters have an order."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count


class Slots:
    """`limit` holders at a time. Larger priority first; among equals the smaller ticket: the older transfer is finished
    before a younger one takes part, so that its bytes are safe sooner.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._tickets = count()
        self._order = count()

    def ticket(self) -> int:
        return next(self._tickets)

    @property
    def free(self) -> int:
        return self._free

    @asynccontextmanager
    async def held(self, priority: int, ticket: int) -> AsyncIterator[None]:
        await self._acquire(priority, ticket)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, priority: int, ticket: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, ticket, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was handed to us in the same moment
                self._release()
            turn.cancel()
            raise

    def _release(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[-1]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
