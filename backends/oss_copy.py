"""Copies inside an OSS store, `CopyObject` and `UploadPartCopy`: one request without a body instead of the bytes.

The origin's version goes along (`x-oss-copy-source-if-match`): OSS answers 412 where it has another one. What came out is
confirmed by what OSS says of the copy:

    its CRC-64/XZ        of a whole object by HEAD, of a part where the answer has it
    its ETag as an MD5   of parts otherwise. Of encrypted ones it is no MD5: then there is no word on the part
    neither              NotSupported: sent instead

The source is read here (not sent) for its own CRC-64/XZ, which also joins that of the whole in the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from .base import Origin, Source
from .caller import WatchedSource
from .checksum import md5_of
from .errors import ChecksumMismatch, NotSupported, ObjectChanged
from .oss_connection import OssConnection
from .oss_errors import error_code
from .translation import copy_answers

_MD5 = re.compile(r"[0-9A-F]{32}")


@contextmanager
def copying(connection: OssConnection, what: str, *, source: WatchedSource | None = None) -> Iterator[None]:
    """`calling`, with the answers that only copies get."""
    with copy_answers(error_code), connection.calling(what, source=source, precondition=ObjectChanged):
        yield


def copy_headers(origin: Origin) -> dict[str, str]:
    return {"x-oss-copy-source-if-match": origin.etag}


def whole_headers(origin: Origin) -> dict[str, str]:
    """For `CopyObject`: nothing is inherited but the bytes, so that the object is as if it had been sent.

    (Inherited tags may let a bucket's own rules delete it.)
    """
    return copy_headers(origin) | {"x-oss-metadata-directive": "REPLACE", "x-oss-tagging-directive": "Replace"}


def require_copied_part(said: int | None, etag: str, meant: int, source: Source, what: str) -> None:
    """`said` is the CRC-64/XZ in OSS's answer, `meant` that of the source."""
    if said is not None:
        require_store(meant, said, what)
    elif not _MD5.fullmatch(etag.upper()) or etag.upper() != md5_of(source).hex().upper():
        raise NotSupported(
            f"{what}: OSS copied it and gives no checksum of the copy",
            hint="parts that did not change are sent as well",
        )


def require_store(meant: int, found: int | None, what: str) -> None:
    """Compares with the `x-oss-hash-crc64ecma` of an answer."""
    if found is None:
        raise NotSupported(f"{what}: no x-oss-hash-crc64ecma in the answer", hint="is this OSS, or only like it?")
    if found != meant:
        raise ChecksumMismatch(f"{what}: OSS holds CRC64 {found:016x} where {meant:016x} was meant")
