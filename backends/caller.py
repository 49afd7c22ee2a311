"""The caller's own code runs inside our calls (a Source is read, `on_bytes` is called): what it raises is not ours.

Client libraries wrap whatever passes through them; so the exception is kept here on its way and raised again, itself,
where the call ends.
"""

from __future__ import annotations

from .base import Source

BLOCK = 256 << 10
"""Bytes one `read` of a WatchedSource returns."""


class WatchedSource:
    """A Source that remembers in `failure` what the caller's raised, and is read in larger blocks than are asked for.

    http.client asks for 16 KiB at a time and sends whatever it gets in one call: each block it gets is `BLOCK` long.
    """

    __slots__ = ("_source", "failure")

    def __init__(self, source: Source) -> None:
        self._source = source
        self.failure: BaseException | None = None
        if source.tell():  # it was sent before: another attempt begins at its beginning
            source.seek(0)

    def __len__(self) -> int:
        return len(self._source)

    @property
    def offset(self) -> int:
        return self._source.offset

    def fileno(self) -> int:
        return self._source.fileno()

    def tell(self) -> int:
        return self._source.tell()

    def read(self, size: int | None = -1, /) -> bytes | memoryview:
        try:
            return self._source.read(-1 if size is None or size < 0 else max(size, BLOCK))
        except BaseException as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return self._source.seek(offset, whence)
        except BaseException as error:
            self.failure = error
            raise
