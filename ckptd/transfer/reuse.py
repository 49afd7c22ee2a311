"""What a store holds already of a file that is to be sent, and whether it is worth asking to copy it.

An offer is a hint: the mover compares checksums, the store compares versions, and what was copied is confirmed as what
was sent is. Wherever one of them says no, the bytes are sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ckptd.domain.model import Checksums
from ckptd.transfer.calls import Held
from ckptd.transfer.refusal import NOT_FOUND, NOT_SUPPORTED, OBJECT_CHANGED, UPLOAD_GONE, Refusal
from ckptd.transfer.split import Part

LEAST = 1 << 20
"""Bytes; a stretch below this is sent: the request costs more than they do."""
MOST = 5 << 30
"""Bytes; S3 copies no more at a time (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""
ROW = 3
"""So many files in a row whose copies fail, and the remote is left alone with them for a while."""
PAUSE_S = 600.0

_OF_THE_FILE = frozenset({NOT_FOUND, OBJECT_CHANGED})
"""They say nothing about the store: the origin was pruned or written again."""


@dataclass(frozen=True, slots=True)
class Reusable:
    """An object that probably has bytes in common with a file that is to be sent."""

    key: str
    etag: str
    checksums: Checksums

    def whole(self, size: int) -> Held | None:
        if self.checksums.size != size or not LEAST <= size <= MOST:
            return None
        return Held(self.key, self.etag, self.checksums.whole)

    def part(self, part: Part, part_size: int) -> Held | None:
        """The same stretch of it, where it was divided alike."""
        sums = self.checksums
        length = min(part_size, sums.size - part.offset)
        if sums.part_size != part_size or length != part.length or not LEAST <= length <= MOST:
            return None
        return Held(self.key, self.etag, sums.parts[part.number - 1])


class CopyBook:
    """Which remotes copy: found out by asking them, as version numbers of S3-compatible stores do not tell."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lacking: set[str] = set()
        self._failed: dict[str, int] = {}
        self._paused: dict[str, float] = {}

    def allows(self, remote: str) -> bool:
        return remote not in self._lacking and self._clock() >= self._paused.get(remote, 0.0)

    def worked(self, remote: str) -> None:
        """A file was made durable with copies in it."""
        self._failed.pop(remote, None)

    def failed(self, remote: str, code: str) -> None:
        """The copies of one file came to nothing."""
        if code == NOT_SUPPORTED:
            self._lacking.add(remote)
        elif code not in _OF_THE_FILE:
            self._failed[remote] = self._failed.get(remote, 0) + 1
            if self._failed[remote] >= ROW:
                del self._failed[remote]
                self._paused[remote] = self._clock() + PAUSE_S


class Offer:
    """What one upload may copy; withdrawn at the first trouble."""

    def __init__(self, reusable: Reusable | None, remote: str, book: CopyBook) -> None:
        self._reusable = reusable
        self._remote = remote
        self._book = book
        self.copied = 0
        """Bytes."""
        self.used = False
        """Something that the store holds of this upload may be a copy."""

    @property
    def open(self) -> bool:
        return self._reusable is not None and self._book.allows(self._remote)

    def whole(self, size: int) -> Held | None:
        return self._reusable.whole(size) if self._reusable is not None and self.open else None

    def part(self, part: Part, part_size: int) -> Held | None:
        return self._reusable.part(part, part_size) if self._reusable is not None and self.open else None

    def took(self, count: int) -> None:
        self.copied += count
        self.used = True

    def resumed(self) -> None:
        """Parts of an earlier process are used: nobody remembers whether they were copied."""
        self.used = self.used or self._reusable is not None

    def refused(self, trouble: Refusal) -> None:
        """The store did not copy; several parts under way may each say so."""
        if self._reusable is not None:
            self._reusable = None
            self._book.failed(self._remote, trouble.code)

    def unjoined(self, code: str) -> None:
        """It was all for nothing: the store would not make an object of it, and it begins anew.

        An upload of an earlier process that the store has forgotten by now says nothing about copies.
        """
        if self.copied:
            self._book.failed(self._remote, code)
        if self.copied or code != UPLOAD_GONE:
            self._reusable = None
        self.copied, self.used = 0, False

    def done(self) -> None:
        if self.copied:
            self._book.worked(self._remote)
