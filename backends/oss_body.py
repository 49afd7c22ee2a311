"""What goes up to OSS, checked as it passes.

OSS compares no checksum of ours with a body; it answers with the CRC-64/XZ of what it stored. So two are taken of the very
bytes that go to the socket: CRC64NVME, compared with the caller's before the last block leaves (a request that is cut short
stores nothing), and CRC-64/XZ, compared with OSS's answer. Between the caller's checksum and the store's no byte is unseen.
"""

from __future__ import annotations

from awscrt.checksums import crc64nvme as crc64nvme_of

from .base import Source
from .caller import WatchedSource
from .checksum import require_equal
from .crc64xz import crc64xz


class CheckedSource(WatchedSource):
    """Sent once, from its beginning to its end. `crc64xz` is right when it was read to there.

    `read` raises ChecksumMismatch in place of the last block where the bytes are not those the caller meant.
    """

    __slots__ = ("_done", "_meant", "_nvme", "_what", "crc64xz")

    def __init__(self, source: Source, crc64nvme: int, what: str) -> None:
        super().__init__(source)
        self._meant = crc64nvme
        self._what = what
        self._done = 0
        self._nvme = 0
        self.crc64xz = 0
        if not len(source):
            require_equal(crc64nvme, 0, what)

    def read(self, size: int | None = -1, /) -> bytes | memoryview:
        block = super().read(size)
        self._nvme = int(crc64nvme_of(block, self._nvme))
        self.crc64xz = crc64xz(block, self.crc64xz)
        self._done += len(block)
        if block and self._done == len(self):
            try:
                require_equal(self._meant, self._nvme, self._what)
            except BaseException as error:
                self.failure = error
                raise
        return block

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Only back to the beginning, where another attempt starts."""
        at = super().seek(offset, whence)
        assert at == 0
        self._done = self._nvme = self.crc64xz = 0
        return at
