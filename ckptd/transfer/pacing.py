"""A bandwidth cap as a token bucket, shared by the threads of one mover."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST_NAP = 0.2
"""Seconds; a paced thread looks at its cancel token at least this often."""
BURST = 0.25
"""Seconds' worth of tokens that may be saved up."""


class Pacer:
    """`rate` bytes a second; 0: no cap."""

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
        self._free_at = clock()
        """When all that was granted so far has been sent at `rate`."""

    def set_rate(self, rate: float) -> None:
        with self._lock:
            self._rate = rate

    def take(self, count: int, check: Callable[[], None]) -> None:
        """Returns when `count` bytes may go; `check` is called between naps and may raise: then they do not go."""
        until = self._reserve(count)
        try:
            while (wait := until - self._clock()) > 0:
                check()
                self._sleep(min(wait, LONGEST_NAP))
        except BaseException:
            with self._lock:
                if self._rate > 0:
                    self._free_at -= min(count / self._rate, wait)
            raise

    def _reserve(self, count: int) -> float:
        with self._lock:
            now = self._clock()
            if self._rate <= 0:
                return now
            self._free_at = max(self._free_at, now - BURST) + count / self._rate
            return self._free_at
