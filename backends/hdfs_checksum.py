"""HDFS's own file checksums, taken here of the very bytes that are sent, to be compared with what a DataNode says it stored.

`MD5-of-…MD5-of-512CRC32C` (the default): a CRC-32C of each chunk of 512 bytes, the MD5 of those of each block, and the MD5 of
the blocks' MD5s (`FileChecksumHelper`, `MD5MD5CRC32FileChecksum`). `COMPOSITE-CRC32C` (`dfs.checksum.combine.mode` of Hadoop 3.1
and newer): the CRC-32C of the whole file. With other chunks or CRC-32 they are taken in a second pass over the same source.

Measured: half a second of one core for 1 GiB, most of it the calls for two million chunks; a DataNode computes nothing, it
reads what it keeps beside the block.
"""

from __future__ import annotations

import hashlib
import re
import struct
import sys
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from awscrt.checksums import combine_crc32c, crc32c
from awscrt.checksums import crc64nvme as crc64nvme_of
from fastcrc import crc32 as fastcrc32

from .base import Source
from .caller import WatchedSource
from .checksum import require_equal

CHUNK = 512
_BLOCK = 1 << 20
_AT_ONCE = 128
"""Chunks unpacked in one step: a third less time than one by one."""
_MD5 = re.compile(r"MD5-of-\d+MD5-of-(\d+)(CRC32C?)")
_COMPOSITE = "COMPOSITE-CRC32C"


@dataclass(frozen=True, slots=True)
class StoredSum:
    """What GETFILECHECKSUM answers, taken apart."""

    chunk: int
    """Bytes per CRC; 0: one CRC over all of the file (composite)."""
    kind: str
    """`CRC32C` or `CRC32`."""
    value: bytes

    @classmethod
    def parse(cls, algorithm: str, hexadecimal: str) -> StoredSum | None:
        """None for a kind that is not known here."""
        try:
            value = bytes.fromhex(hexadecimal)
        except ValueError:
            return None
        if algorithm == _COMPOSITE and len(value) >= 4:
            return cls(0, "CRC32C", value[-4:])
        found = _MD5.fullmatch(algorithm)
        # Four bytes of chunk size, eight of CRCs in a block, sixteen of MD5.
        if found is None or len(value) < 28:
            return None
        return cls(int(found[1]), found[2], value[12:28])


@dataclass(frozen=True, slots=True)
class Sums:
    """Of bytes as HDFS would store them in blocks of a known size. Text in a part's tag."""

    blocks: tuple[bytes, ...]
    """The MD5 of each block's CRCs; empty where the store has another kind of checksum."""
    crc: int | None
    """CRC-32C of everything."""

    def text(self) -> str:
        return f"{'' if self.crc is None else f'{self.crc:08x}'} {b''.join(self.blocks).hex()}"

    @classmethod
    def parse(cls, text: str) -> Sums:
        crc, _, blocks = text.partition(" ")
        packed = bytes.fromhex(blocks)
        return cls(tuple(packed[at : at + 16] for at in range(0, len(packed), 16)), int(crc, 16) if crc else None)

    def matches(self, stored: StoredSum) -> bool:
        if not stored.chunk:
            return self.crc is not None and self.crc.to_bytes(4, "big") == stored.value
        return stored.value == hashlib.md5(_buffer(b"".join(self.blocks)), usedforsecurity=False).digest()


def _buffer(packed: bytes) -> bytes:
    """What is digested is all of a `DataOutputBuffer` (`getData()`), which is 32 bytes and doubles: zeros at its end."""
    capacity = 32
    while capacity < len(packed):
        capacity *= 2
    return packed.ljust(capacity, b"\0")


def joined(parts: Sequence[tuple[Sums, int]]) -> Sums:
    """Of parts, each with its size, that CONCAT puts one after the other: their blocks stay what they are."""
    crc: int | None = 0
    for sums, size in parts:
        crc = None if crc is None or sums.crc is None else int(combine_crc32c(crc, sums.crc, size))
    return Sums(tuple(chain.from_iterable(sums.blocks for sums, _ in parts)), crc)


class BlockSums:
    """Takes both kinds of checksum of bytes that come in stretches. Every block but the last is `block_size` bytes."""

    def __init__(self, block_size: int, chunk: int = CHUNK, kind: str = "CRC32C") -> None:
        self._block_size = block_size
        self._chunk = chunk
        self._of_chunk: Callable[[bytes], int] = fastcrc32.iscsi if kind == "CRC32C" else zlib.crc32
        self._unpack_many = struct.Struct(f"{chunk}s" * _AT_ONCE).iter_unpack
        self._unpack = struct.Struct(f"{chunk}s").iter_unpack
        self._left = block_size
        self._carry = b""
        self._digest = hashlib.md5(usedforsecurity=False)
        self._blocks: list[bytes] = []
        self._crc = 0

    def feed(self, stretch: bytes | memoryview) -> None:
        view = memoryview(stretch)
        self._crc = int(crc32c(view, self._crc))
        while view:
            piece, view = view[: self._left], view[self._left :]
            self._left -= len(piece)
            self._chunks(piece)
            if not self._left:
                self._end_block()

    def _chunks(self, piece: memoryview) -> None:
        if self._carry:
            short = self._chunk - len(self._carry)
            self._carry += bytes(piece[:short])
            piece = piece[short:]
            if len(self._carry) < self._chunk:
                return
            self._count(memoryview(self._carry))
        whole = len(piece) - len(piece) % self._chunk
        self._count(piece[:whole])
        self._carry = bytes(piece[whole:])

    def _count(self, chunks: memoryview) -> None:
        many = len(chunks) - len(chunks) % (self._chunk * _AT_ONCE)
        pieces = chain(
            chain.from_iterable(self._unpack_many(chunks[:many])), chain.from_iterable(self._unpack(chunks[many:]))
        )
        found = array("I", map(self._of_chunk, pieces))
        if sys.byteorder == "little":
            found.byteswap()
        self._digest.update(found)

    def _end_block(self) -> None:
        if self._carry:
            self._digest.update(self._of_chunk(self._carry).to_bytes(4, "big"))
            self._carry = b""
        self._blocks.append(self._digest.digest())
        self._digest = hashlib.md5(usedforsecurity=False)
        self._left = self._block_size

    def sums(self) -> Sums:
        if self._left < self._block_size:
            self._end_block()
        return Sums(tuple(self._blocks), self._crc)


def sums_of(source: Source, block_size: int, stored: StoredSum) -> Sums:
    """With the parameters that the store has. Reads it through and rewinds it."""
    taken = BlockSums(block_size, stored.chunk or CHUNK, stored.kind)
    source.seek(0)
    while block := source.read(_BLOCK):
        taken.feed(block)
    source.seek(0)
    return taken.sums()


class CheckedSource(WatchedSource):
    """Sent once, from its beginning to its end. `meant`: CRC-64/NVME.

    With `summing`, HDFS's own checksum is taken on the way: `sums` is right when it was read to its end.

    `read` raises ChecksumMismatch in place of the last block where the bytes are not those the caller meant: the file that
    they went to is never published.
    """

    __slots__ = ("_done", "_nvme", "_taken", "_what", "meant", "summing")

    def __init__(self, source: Source, crc64nvme: int, block_size: int, what: str) -> None:
        super().__init__(source)
        self.meant, self._what = crc64nvme, what
        self._taken = BlockSums(block_size)
        self._done = self._nvme = 0
        self.summing = True
        if not len(source):
            require_equal(crc64nvme, 0, what)

    @property
    def sums(self) -> Sums:
        return self._taken.sums()

    def read(self, size: int | None = -1, /) -> bytes | memoryview:
        block = super().read(size)
        self._nvme = int(crc64nvme_of(block, self._nvme))
        if self.summing:
            self._taken.feed(block)
        self._done += len(block)
        if block and self._done == len(self):
            try:
                require_equal(self.meant, self._nvme, self._what)
            except BaseException as error:
                self.failure = error
                raise
        return block
