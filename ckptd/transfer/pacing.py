"""A bandwidth cap as a token bucket, shared by the threads of one mover."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

LONGEST_NAP = 0.2
"""Seconds; a paced thread looks at its cancel token at least this often."""
BURST = 0.25
"""Seconds' worth of tokens that may be saved up."""


class Pacer:
    """`rate` bytes a second; 0: no cap. Threads take turns in the order in which they came: one that gives up, because its
    transfer was cancelled, leaves its place to those behind it at once.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._turns: deque[threading.Event] = deque()
        """Who waits; the first one's is set."""
        self._free_at = clock()
        """When all that was granted so far has been sent at `rate`. Only who has the turn changes it."""

    def set_rate(self, rate: float) -> None:
        self._rate = rate

    def take(self, count: int, check: Callable[[], None]) -> None:
        """Returns when `count` bytes may go; `check` is called between naps and may raise: then they do not go."""
        if self._rate <= 0:
            return
        turn = self._queued()
        try:
            while not turn.wait(LONGEST_NAP):
                check()
            rate = self._rate
            until = max(self._free_at, self._clock() - BURST) + (count / rate if rate > 0 else 0.0)
            while (wait := until - self._clock()) > 0:
                check()
                self._sleep(min(wait, LONGEST_NAP))
            self._free_at = until
        finally:
            self._leave(turn)

    def _queued(self) -> threading.Event:
        turn = threading.Event()
        with self._lock:
            self._turns.append(turn)
            self._turns[0].set()
        return turn

    def _leave(self, turn: threading.Event) -> None:
        with self._lock:
            self._turns.remove(turn)
            if self._turns:
                self._turns[0].set()
