"""What one transfer has moved: told to its caller, to the node's speed, and to the bytes still queued."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from ckptd.transfer.rates import Rate


class Queue:
    """Bytes that transfers have taken on and not moved yet."""

    def __init__(self) -> None:
        self.bytes = 0


class Tally:
    """Bytes of files that the stores have confirmed since this process started."""

    def __init__(self) -> None:
        self.sent = 0
        self.copied = 0
        """Inside the store, instead of being sent."""


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
