"""Which checksum a store verifies, and the arguments that carry it.

    crc64nvme   ours: AWS since 2025, recent MinIO, Ceph, SeaweedFS. Parts and the whole are compared by the store
    crc32c      computed besides: stores with the flexible checksums of 2022. Parts are compared, and their checksums'
                checksum for the whole
    md5         `Content-MD5`, which every S3 store has verified from the first: 1.5 s of CPU a GiB. Parts are compared
    none        nothing is compared by the store: what was written is read back whole

`auto` tries them in this order, with a wrong checksum: a store that accepts it does not look.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from awscrt.checksums import crc32c

from .base import PartTag, Source
from .checksum import crc32c_of, decode, encode, md5_of
from .errors import ChecksumMismatch


class Algorithm(StrEnum):
    CRC64NVME = "crc64nvme"
    CRC32C = "crc32c"
    MD5 = "md5"
    NONE = "none"


def body_arguments(algorithm: Algorithm, source: Source, crc64nvme: int) -> dict[str, str]:
    """For `PutObject` and `UploadPart`."""
    match algorithm:
        case Algorithm.CRC64NVME:
            return {"ChecksumCRC64NVME": encode(crc64nvme, 8)}
        case Algorithm.CRC32C:
            return {"ChecksumCRC32C": encode(crc32c_of(source), 4)}
        case Algorithm.MD5:
            return {"ContentMD5": base64.b64encode(md5_of(source)).decode()}
        case Algorithm.NONE:
            return {}


def wrong_arguments(algorithm: Algorithm) -> dict[str, str]:
    """A checksum no body has but by accident: a store that compares refuses it."""
    match algorithm:
        case Algorithm.CRC64NVME:
            return {"ChecksumCRC64NVME": encode(0x0123456789ABCDEF, 8)}
        case Algorithm.CRC32C:
            return {"ChecksumCRC32C": encode(0x01234567, 4)}
        case Algorithm.MD5 | Algorithm.NONE:
            return {"ContentMD5": base64.b64encode(bytes(range(16))).decode()}


def begin_arguments(algorithm: Algorithm) -> dict[str, str]:
    """For `CreateMultipartUpload`."""
    match algorithm:
        case Algorithm.CRC64NVME:
            return {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
        case Algorithm.CRC32C:
            return {"ChecksumAlgorithm": "CRC32C"}
        case Algorithm.MD5 | Algorithm.NONE:
            return {}


def split_upload_id(upload_id: str) -> tuple[Algorithm, str]:
    """Ours is `<algorithm>:<the store's>`."""
    kind, colon, store_id = upload_id.partition(":")
    return (Algorithm(kind), store_id) if colon and kind in set(Algorithm) else (Algorithm.NONE, upload_id)


def part_tag(algorithm: Algorithm, etag: str, arguments: dict[str, str]) -> str:
    """What is needed to finish in another process: the ETag, and the CRC32C where that is the store's kind."""
    return f"{etag} {arguments['ChecksumCRC32C']}" if algorithm is Algorithm.CRC32C else etag


def finish_parts(algorithm: Algorithm, parts: Sequence[PartTag]) -> list[dict[str, Any]]:
    """`Parts` of `CompleteMultipartUpload`."""
    listed = []
    for part in parts:
        etag, _, crc = part.tag.partition(" ")
        entry: dict[str, Any] = {"PartNumber": part.number, "ETag": etag}
        if algorithm is Algorithm.CRC64NVME:
            entry["ChecksumCRC64NVME"] = encode(part.crc64nvme, 8)
        elif algorithm is Algorithm.CRC32C:
            entry["ChecksumCRC32C"] = crc
        listed.append(entry)
    return listed


def finish_arguments(algorithm: Algorithm, crc64nvme: int, size: int) -> dict[str, Any]:
    """The rest of `CompleteMultipartUpload`."""
    if algorithm is Algorithm.CRC64NVME:
        return {"ChecksumCRC64NVME": encode(crc64nvme, 8), "ChecksumType": "FULL_OBJECT", "MpuObjectSize": size}
    return {}


def require_confirmed(
    algorithm: Algorithm, answer: dict[str, Any], what: str, crc64nvme: int, parts: Sequence[PartTag] = ()
) -> None:
    """Compares what the store says it holds (an answer to HEAD or PUT) with what was meant; no answer is no objection,
    since the store has compared every body it was sent.
    """
    found = decode(answer.get("ChecksumCRC64NVME"))
    if found is not None and found != crc64nvme:
        raise ChecksumMismatch(f"{what}: the store holds CRC64NVME {found:016x} where {crc64nvme:016x} was meant")
    composite = answer.get("ChecksumCRC32C")
    if algorithm is Algorithm.CRC32C and parts and composite and "-" in composite:
        digests = b"".join(base64.b64decode(part.tag.partition(" ")[2]) for part in parts)
        meant = f"{encode(int(crc32c(digests)), 4)}-{len(parts)}"
        if composite != meant:
            raise ChecksumMismatch(f"{what}: the store holds CRC32C {composite} where {meant} was meant")
