"""The seam to files that are only in the remote: listed as if they were here, fetched when somebody opens one.

The server asks an object of this protocol. `lookup` and `listing` are answered from memory, at once: a name that is not in the
backing tree stands still until they return, and with it the whole mount. A fetch is begun and ends when it ends.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ColdEntry:
    """`size` in bytes, `mtime_ns` since the epoch; `mode` with the file's type. A directory is made in the backing tree when it
    is looked up, so that only files are ever cold.
    """

    name: bytes
    mode: int
    size: int
    mtime_ns: int
    uid: int = 0
    gid: int = 0


class Cold(Protocol):
    """All paths are relative to the volume, without a slash in front."""

    def lookup(self, path: bytes) -> ColdEntry | None: ...

    def listing(self, directory: bytes) -> Iterable[ColdEntry]:
        """Entries below a directory (b"" is the root), in an order that stays the same."""
        ...

    def fetch(self, path: bytes) -> None:
        """Begins to bring the file to its place in the backing tree. Asked once for a path until `completed` names it."""
        ...

    def fileno(self) -> int:
        """A descriptor that is readable when `completed` has something to say; -1: there is none."""
        ...

    def completed(self) -> Iterator[tuple[bytes, int]]:
        """Paths of fetches that have ended, with 0 or an errno."""
        ...

    def forget(self, path: bytes) -> None:
        """The job has unlinked a cold file. Raises OSError to refuse it."""
        ...


class NothingCold:
    """All files are in the backing tree."""

    def lookup(self, path: bytes) -> ColdEntry | None:  # noqa: ARG002  # the protocol's
        return None

    def listing(self, directory: bytes) -> Iterable[ColdEntry]:  # noqa: ARG002
        return ()

    def fetch(self, path: bytes) -> None:
        raise OSError(errno.EIO, "nothing can be fetched", path)

    def fileno(self) -> int:
        return -1

    def completed(self) -> Iterator[tuple[bytes, int]]:
        return iter(())

    def forget(self, path: bytes) -> None:
        pass
