"""Speed over the last few seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW = 5.0
"""Seconds."""
_GRAIN = 0.25
_SHORTEST = 1.0


class Rate:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, count: int) -> None:
        """`count` may be negative: bytes that turned out to be lost and go again."""
        now = self._clock()
        self._sum += count
        if self._counts and now - self._counts[-1][0] < _GRAIN:
            at, before = self._counts.pop()
            self._counts.append((at, before + count))
        else:
            self._counts.append((now, count))
        self._forget(now)

    def per_second(self) -> float:
        """Over the time since the first byte that is not forgotten yet, so that a short transfer has its true speed."""
        now = self._clock()
        self._forget(now)
        if not self._counts:
            return 0.0
        return max(0.0, self._sum / min(WINDOW, max(_SHORTEST, now - self._counts[0][0])))

    def _forget(self, now: float) -> None:
        while self._counts and self._counts[0][0] <= now - WINDOW:
            self._sum -= self._counts.popleft()[1]
