"""Cold files of which a part is here: their first bytes can be read before the last have come.

The daemon fetches into a private file, checks each part when it is there, and says so. Parts that were checked are read from that
file; it is the one that gets the name in the end.
"""

from __future__ import annotations

import bisect
import os

LEAST = 32 << 20
"""Smaller files are soon here as a whole, and are then read by the kernel itself."""


class Stream:
    def __init__(self, staged: bytes) -> None:
        self.staged = staged
        self.fd = os.open(staged, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._have: list[tuple[int, int]] = []
        """Beginnings and ends, in order, apart from one another."""

    def add(self, offset: int, length: int) -> None:
        begin, end = offset, offset + length
        first = bisect.bisect_left(self._have, begin, key=lambda one: one[1])
        last = bisect.bisect_right(self._have, end, key=lambda one: one[0])
        if first < last:
            begin, end = min(begin, self._have[first][0]), max(end, self._have[last - 1][1])
        self._have[first:last] = [(begin, end)]

    def has(self, offset: int, length: int) -> bool:
        at = bisect.bisect_right(self._have, offset, key=lambda one: one[0]) - 1
        return length <= 0 or (at >= 0 and self._have[at][1] >= offset + length)


class Streams:
    """By path."""

    def __init__(self) -> None:
        self._by_path: dict[bytes, Stream] = {}

    def part(self, path: bytes, staged: bytes, offset: int, length: int) -> None:
        """Bytes of a file that is being fetched are in `staged`, checked. Raises OSError."""
        stream = self._by_path.get(path)
        if stream is None or stream.staged != staged:  # another content is being fetched by now
            self.end(path)
            stream = self._by_path[path] = Stream(staged)
        stream.add(offset, length)

    def get(self, path: bytes) -> Stream | None:
        return self._by_path.get(path)

    def end(self, path: bytes) -> None:
        """The fetch has ended, well or not."""
        stream = self._by_path.pop(path, None)
        if stream is not None:
            os.close(stream.fd)
