"""One call, until it is done or cannot be: slots, tries, health.

A try holds a slot; the sleep between tries does not, so a part that the store throttles lets others pass.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import structlog

from ckptd.transfer.backoff import Backoff
from ckptd.transfer.calls import Call
from ckptd.transfer.health import HealthBook
from ckptd.transfer.pool import MoverPool
from ckptd.transfer.progress import Tallies
from ckptd.transfer.refusal import CHECKSUM, Refusal, Refused
from ckptd.transfer.slots import Slots

Answer = TypeVar("Answer")

CHECKSUM_TRIES = 3
"""Wrong bytes once or twice are the line's; three times they are the object's."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a transfer stands in the queue for slots."""

    priority: int
    ticket: int
    party: str
    """Whom it is for: a remote, and in it a user. Slots are shared among them."""


class Dispatcher:
    def __init__(
        self,
        pool: MoverPool,
        slots: Slots,
        health: HealthBook,
        backoff: Backoff,
        tallies: Tallies,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._pool = pool
        self._slots = slots
        self._health = health
        self._backoff = backoff
        self._tallies = tallies
        self._sleep = sleep
        self._chance = chance

    async def ask(
        self,
        call: Call[Answer],
        *,
        remote: str | None = None,
        turn: Turn | None = None,
        on_bytes: Callable[[int], None] | None = None,
        tries: int | None = None,
    ) -> Answer:
        """Raises Refused when the tries are used up or another cannot help; its `failures` says how many there were.

        `on_bytes` gets the count of bytes as they move, and what a failed try had moved once more as a negative count.
        """
        failures = 0
        while True:
            counter = _Counter(on_bytes)
            try:
                async with self._slot(turn):
                    answer = await self._pool.call(call, counter.add)
            except Refused as refused:
                counter.undo()
                failures += 1
                refused.failures = failures
                final = self._is_final(refused.refusal, failures, tries)
                if remote is not None:
                    self._health.failed(remote, refused.refusal, given_up=final)
                    self._count(remote, final=final)
                if final:
                    raise
                wait = self._backoff.wait(failures, self._chance(), refused.refusal.retry_after)
                _log.info("transfer.retry", call=type(call).__name__, remote=remote, wait_s=round(wait, 2),
                          failures=failures, code=refused.refusal.code, error=refused.refusal.message)  # fmt: skip
                await self._sleep(wait)
            else:
                if remote is not None:
                    self._health.answered(remote)
                return answer

    def _count(self, remote: str, *, final: bool) -> None:
        """A refusal that only says something about one object is an answer, not a failure."""
        if not final:
            self._tallies[remote].retries += 1
        elif not self._health.get(remote).ok:
            self._tallies[remote].failures += 1

    def _slot(self, turn: Turn | None) -> AbstractAsyncContextManager[None]:
        return self._slots.held(turn.priority, turn.ticket, turn.party) if turn else nullcontext()

    def _is_final(self, refusal: Refusal, failures: int, tries: int | None) -> bool:
        limit = self._backoff.tries if tries is None else tries
        if refusal.code == CHECKSUM:
            limit = min(limit, CHECKSUM_TRIES)
        return not refusal.retryable or failures >= limit


class _Counter:
    def __init__(self, on_bytes: Callable[[int], None] | None) -> None:
        self._on_bytes = on_bytes
        self._moved = 0

    def add(self, count: int) -> None:
        self._moved += count
        if self._on_bytes:
            self._on_bytes(count)

    def undo(self) -> None:
        if self._on_bytes and self._moved:
            self._on_bytes(-self._moved)
