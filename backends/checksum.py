"""Checksums of parts and wholes, and how S3 writes them down."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence

from awscrt.checksums import combine_crc64nvme, crc32c

from .base import PartTag, Source
from .errors import ChecksumMismatch

_BLOCK = 1 << 20


def combined(parts: Sequence[PartTag]) -> int:
    """CRC-64/NVME of the object the parts make, in their order."""
    whole = 0
    for part in parts:
        whole = int(combine_crc64nvme(whole, part.crc64nvme, part.size))
    return whole


def require_equal(expected: int, found: int, what: str) -> None:
    if expected != found:
        raise ChecksumMismatch(f"{what}: CRC64NVME {found:016x} came out where {expected:016x} was meant")


def encode(value: int, width: int) -> str:
    """Base64 of the big-endian value of `width` bytes, as in `x-amz-checksum-…` headers."""
    return base64.b64encode(value.to_bytes(width, "big")).decode()


def decode(text: str | None) -> int | None:
    """None where the store gave nothing, or a checksum of checksums (`…-3`), which says nothing about the bytes."""
    if not text or "-" in text:
        return None
    return int.from_bytes(base64.b64decode(text), "big")


def crc32c_of(source: Source) -> int:
    crc = 0
    for block in _blocks(source):
        crc = int(crc32c(block, crc))
    return crc


def md5_of(source: Source) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    for block in _blocks(source):
        digest.update(block)
    return digest.digest()


def _blocks(source: Source) -> Iterator[bytes | memoryview]:
    """Reads it through and rewinds it."""
    source.seek(0)
    while block := source.read(_BLOCK):
        yield block
    source.seek(0)
