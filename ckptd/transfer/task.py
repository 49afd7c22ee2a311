"""One call while a mover works on it: may it go on, how far is it, why was it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

from ckptd.transfer.pacing import Pacer
from ckptd.transfer.refusal import CANCELLED, Refusal, Refused

REPORT_BYTES = 8 << 20
REPORT_SECONDS = 0.2
"""Progress goes to the worker when both are over, so that fast lines do not flood it with messages."""


class Task:
    def __init__(self, pacer: Pacer, report: Callable[[int], None]) -> None:
        self._pacer = pacer
        self._report = report
        self._cancelled = False
        self._failure: Refused | None = None
        self._unreported = 0
        self._reported_at = time.monotonic()

    def cancel(self) -> None:
        """From the mover's reading thread; the working thread notices at its next chunk."""
        self._cancelled = True

    def check(self) -> None:
        if self._cancelled:
            self.stop(Refusal(CANCELLED, "cancelled"))

    def stop(self, refusal: Refusal) -> None:
        """Raises, and remembers it: client libraries wrap what is raised inside their `read` in errors of their own."""
        self._failure = Refused(refusal)
        raise self._failure

    @property
    def failure(self) -> Refused | None:
        return self._failure

    def moved(self, count: int) -> None:
        """Paces and counts bytes that came or are about to go."""
        self.check()
        self._pacer.take(count, self.check)
        self.count(count)

    def count(self, count: int) -> None:
        """Counts without pacing; negative when a stretch is sent again from its beginning."""
        self._unreported += count
        now = time.monotonic()
        if abs(self._unreported) >= REPORT_BYTES and now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            self._report(self.take_unreported())

    def take_unreported(self) -> int:
        count, self._unreported = self._unreported, 0
        return count
