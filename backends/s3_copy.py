"""Copies inside an S3 store, `CopyObject` and `UploadPartCopy`: one request without a body instead of the bytes.

The request names the origin's version (`x-amz-copy-source-if-match`); a store that has another one answers 412. Not all
stores look at it (Cloudflare R2 lists it as unsupported for parts), so the version alone proves nothing: what came out is
confirmed by what the store says of the *copy*.

    its CRC64NVME or CRC32C   AWS, SeaweedFS: of a copied part in the answer, of a whole object by HEAD. An upload that was
                              begun with one of them needs it of every part: MinIO gives none of copied ones, and would not
                              finish the upload (https://github.com/minio/minio/issues/20649)
    its ETag as an MD5        of whole objects, and of parts where the store is used with `checksum = md5`. Not so where
                              objects are encrypted with keys of their own: then it is no MD5, which counts as no word
    neither                   NotSupported: sent instead. (With `checksum = none` everything is read back in the end.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .base import Source
from .caller import WatchedSource
from .checksum import crc32c_of, decode, encode, md5_of, require_equal
from .errors import ChecksumMismatch, NotSupported, ObjectChanged
from .s3_checksum import Algorithm
from .s3_connection import S3Connection
from .s3_errors import error_code
from .translation import copy_answers

_MD5 = re.compile(r"[0-9a-f]{32}")


@contextmanager
def copying(connection: S3Connection, what: str, *, source: WatchedSource | None = None) -> Iterator[None]:
    """`calling`, with the answers that only copies get."""
    with copy_answers(error_code), connection.calling(what, source=source, precondition=ObjectChanged):
        yield


def copy_arguments(kind: Algorithm) -> dict[str, str]:
    """For `CopyObject`: nothing is inherited but the bytes, so that the object is as if it had been sent.

    (Inherited tags may let a bucket's own rules delete it.)
    """
    arguments = {"MetadataDirective": "REPLACE", "TaggingDirective": "REPLACE"}
    if kind in {Algorithm.CRC64NVME, Algorithm.CRC32C}:
        arguments["ChecksumAlgorithm"] = kind.upper()
    return arguments


def etag_of(result: Mapping[str, Any]) -> str:
    """In quotes, as every other answer has it; "" where the store gives none."""
    bare = str(result.get("ETag") or "").strip('"')
    return f'"{bare}"' if bare else ""


def require_copied(
    kind: Algorithm, said: Mapping[str, Any], source: Source, crc64nvme: int, what: str, *, part: bool
) -> dict[str, str]:
    """Compares what the store says of the copy (see above) with what was meant; where the kind is `none`, the caller
    reads it back.

    Returns the arguments with which the same bytes would have been sent, for `part_tag`.
    """
    own = {"ChecksumCRC32C": encode(crc32c_of(source), 4)} if kind is Algorithm.CRC32C else {}
    ours, other = decode(said.get("ChecksumCRC64NVME")), said.get("ChecksumCRC32C")
    if ours is not None:
        require_equal(crc64nvme, ours, what)
    elif own and other and "-" not in other:
        if other != own["ChecksumCRC32C"]:
            raise ChecksumMismatch(f"{what}: the copy has CRC32C {other} where {own['ChecksumCRC32C']} was meant")
    elif kind is not Algorithm.NONE:
        etag = etag_of(said).strip('"')
        by_md5 = not part or kind is Algorithm.MD5
        if not by_md5 or not _MD5.fullmatch(etag) or etag != md5_of(source).hex():
            raise NotSupported(
                f"{what}: the store copied it and gives no checksum of the copy",
                hint="parts that did not change are sent as well",
            )
    return own
