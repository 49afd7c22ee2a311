"""The parts in flight over all files: a semaphore whose waiters have an order, and which no remote and no user takes whole."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

_Waiter = tuple[int, int, int, asyncio.Future[None]]
"""Minus the priority, ticket, order of coming: sorts by who goes first."""


class Slots:
    """`limit` holders at a time. Larger priority first; among equals the party (a remote, and in it a user) with the fewest
    holders; of one party the smaller ticket: the older transfer is finished before a younger one takes part, so that its bytes
    are safe sooner.

    Each party at work has its equal part of `limit` for certain: it gets that even while others hold all of them. A remote that
    has stopped answering holds its slots until its time-outs, a user's flood holds them for as long as a part takes at a capped
    speed, and nobody must wait for those; so for as long as it takes, there may be up to twice as many holders as `limit` (and a
    few more with many parties).
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, list[_Waiter]] = {}
        self._tickets = count()
        self._order = count()

    def ticket(self) -> int:
        return next(self._tickets)

    @property
    def free(self) -> int:
        return max(0, self._limit - self._held.total())

    @asynccontextmanager
    async def held(self, priority: int, ticket: int, party: str = "") -> AsyncIterator[None]:
        await self._acquire(priority, ticket, party)
        try:
            yield
        finally:
            self._release(party)

    async def _acquire(self, priority: int, ticket: int, party: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting.setdefault(party, []), (-priority, ticket, next(self._order), turn))
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was handed to us in the same moment
                self._release(party)
            turn.cancel()
            raise

    def _release(self, party: str) -> None:
        self._held[party] -= 1
        if not self._held[party]:
            del self._held[party]
        self._hand_out()

    def _hand_out(self) -> None:
        while (party := self._next()) is not None:
            turn = heapq.heappop(self._waiting[party])[-1]
            self._held[party] += 1
            turn.set_result(None)

    def _next(self) -> str | None:
        """Whose waiter goes next; None while all have to wait."""
        self._drop_cancelled()
        if not self._waiting:
            return None
        part = max(1, self._limit // len(self._held.keys() | self._waiting.keys()))
        if self._held.total() < self._limit:
            among = list(self._waiting)
        else:
            among = [party for party in self._waiting if self._held[party] < part]
        return min(among, key=lambda party: (self._waiting[party][0][0], self._held[party]), default=None)

    def _drop_cancelled(self) -> None:
        for party, waiting in list(self._waiting.items()):
            while waiting and waiting[0][-1].done():
                heapq.heappop(waiting)
            if not waiting:
                del self._waiting[party]
