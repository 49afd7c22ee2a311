"""What one transfer has moved: told to its caller, to the node's speed, and to the bytes still queued."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ckptd.transfer.rates import Rate


class Queue:
    """Bytes that transfers have taken on and not moved yet."""

    def __init__(self) -> None:
        self.bytes = 0


@dataclass(slots=True)
class Tally:
    """What one remote did since this process started. Bytes are those of files, each confirmed."""

    sent: int = 0
    copied: int = 0
    """Inside the store, instead of being sent."""
    received: int = 0
    """Into a tier: what is only read to be checked does not count."""
    retries: int = 0
    """Requests that failed and were made again."""
    failures: int = 0
    """Requests that were given up because the remote does not answer, or may not be used."""


Tallies = defaultdict[str, Tally]
"""By the remote's name."""


class Progress:
    """As a context manager it is in the queue for as long as the block runs."""

    def __init__(self, total: int, on_bytes: Callable[[int], None], rate: Rate, queue: Queue) -> None:
        self._total = total
        self._on_bytes = on_bytes
        self._rate = rate
        self._queue = queue
        self._done = 0

    def __enter__(self) -> Self:
        self._queue.bytes += self._total
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.bytes -= self._total - self._done

    def moved(self, count: int) -> None:
        self._rate.add(count)
        self.known(count)

    def known(self, count: int) -> None:
        """Moved by an earlier process: progress, but no speed."""
        self._done += count
        self._queue.bytes -= count
        self._on_bytes(count)

    def again(self) -> None:
        """From the beginning."""
        self.known(-self._done)
