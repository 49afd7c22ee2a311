"""What a file that is about to be written will weigh: what the file of its name weighed in the step before. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(rb"\d+")
MOST = 1 << 16
"""Names that are remembered, the newest of them."""


class Expected:
    def __init__(self) -> None:
        self._bytes: dict[bytes, int] = {}

    def note(self, path: bytes, size: int) -> None:
        """A writer has closed the file. `path` from the root of the volume, as the file was called when it was opened."""
        for key in _keys(path):
            self._bytes.pop(key, None)
            self._bytes[key] = size
        while len(self._bytes) > MOST:
            del self._bytes[next(iter(self._bytes))]

    def learn(self, found: Iterable[tuple[bytes, int]]) -> None:
        """Paths and sizes of files that are there already, the newest first. What was noted since counts more."""
        for path, size in found:
            for key in _keys(path):
                if len(self._bytes) < MOST:
                    self._bytes.setdefault(key, size)

    def of(self, path: bytes) -> int | None:
        """Bytes; None for a name that is not like any before."""
        return next((self._bytes[key] for key in _keys(path) if key in self._bytes), None)


def _keys(path: bytes) -> tuple[bytes, bytes]:
    """Steps are numbers in names of directories (`checkpoint-100/model-1-of-4`), or of the files themselves (`step100.pt`)."""
    folder, slash, name = path.rpartition(b"/")
    folder = _NUMBER.sub(b"#", folder) + slash
    return folder + name, folder + _NUMBER.sub(b"#", name)
