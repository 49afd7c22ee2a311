"""`oss://bucket/prefix`: Alibaba Cloud OSS, through oss2.

One attempt a call; the engine above repeats. A body goes from the caller's buffer to the socket and from the socket into the
caller's memory, never over the Python heap (`oss_body`, `http_body`). OSS answers every write with the CRC-64/XZ of what it
stored, and `oss_body` takes the same of what it was sent: they must agree, for each part and for the whole.

A part's tag is `<ETag> <CRC-64/XZ>`, so that another process can tell the whole's checksum when it finishes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, Self

from oss2.models import PartInfo

from .base import Capabilities, ObjectInfo, Origin, PartTag, PendingUpload, Source
from .caller import WatchedSource
from .checksum import combined, md5_of, require_equal
from .crc64xz import combine_crc64xz, crc64xz_of
from .errors import (
    BackendError,
    BucketMissing,
    ChecksumMismatch,
    NotFound,
    ObjectChanged,
    PreconditionFailed,
    Unavailable,
    UploadGone,
)  # fmt: skip
from .http_body import flow, pour
from .oss_body import CheckedSource
from .oss_connection import OssConnection
from .oss_copy import copy_headers, copying, require_copied_part, require_store, whole_headers
from .oss_delete import delete_all
from .oss_errors import error_code
from .oss_options import OssOptions
from .oss_probe import decides_conditions

_PAGE = 1000
_MD5_UP_TO = 1 << 20
"""Whole objects up to here (manifests, markers) are sent with a Content-MD5, which OSS compares before it shows them."""


class OssBackend:
    """See `backends.base.Backend`."""

    def __init__(self, url: str, options: OssOptions) -> None:
        self._options = options
        self._connection = OssConnection(url, options)
        self._decides = False
        """`probe` has seen here that the bucket refuses to overwrite. Other processes did not see it."""
        self.capabilities = Capabilities(
            conditional_put=True,
            store_checksum="crc64ecma",
            min_part_size=100 << 10,
            max_parts=10_000,
            conditional_replace=False,
            copies=True,
        )

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, str]) -> Self:
        return cls(url, OssOptions.parse(url, options))

    def probe(self) -> None:
        """Lists, then writes (with a condition), reads and deletes `.ckptd/probe-…`."""
        prefix, endpoint = self._options.prefix, self._connection.where.endpoint
        try:
            with self._connection.calling(""):
                self._connection.bucket.list_objects_v2(prefix=prefix, max_keys=1)
        except NotFound as error:  # a 404 that is not OSS's own
            raise BucketMissing(error.message, hint=f"does {endpoint} speak OSS?") from error
        except Unavailable as error:
            error.hint = error.hint or f"is {endpoint} up, and does it speak OSS?"
            raise
        with self._connection.calling(".ckptd/"):
            self._decides = decides_conditions(self._connection.bucket, prefix)
        self.capabilities = replace(self.capabilities, conditional_put=self._decides)

    def put(
        self, key: str, source: Source, crc64nvme: int, *, if_absent: bool = False, if_match: str | None = None
    ) -> ObjectInfo:
        if if_match or (if_absent and not self._decides):
            self._require_condition(key, if_match)
        size = len(source)
        headers: dict[str, str] = {}
        if if_absent:
            headers["x-oss-forbid-overwrite"] = "true"
        checked = CheckedSource(source, crc64nvme, key)
        with self._connection.calling(key, source=checked):
            if size <= _MD5_UP_TO:
                headers["Content-MD5"] = base64.b64encode(md5_of(checked)).decode()
            answer = self._connection.bucket.put_object(self._name(key), checked if size else b"", headers=headers)
        try:
            require_store(checked.crc64xz, answer.crc, key)
        except ChecksumMismatch:
            self._take_back(key, answer.etag)
            raise
        return ObjectInfo(key, size, answer.etag, _date(answer), crc64nvme)

    def begin(self, key: str, size: int) -> str:  # noqa: ARG002  (OSS does not ask for the size)
        with self._connection.calling(key):
            answer = self._connection.bucket.init_multipart_upload(self._name(key))
        return str(answer.upload_id)

    def put_part(self, key: str, upload_id: str, number: int, offset: int, source: Source, crc64nvme: int) -> PartTag:  # noqa: ARG002  (the number orders)
        what = f"{key}, part {number}"
        checked = CheckedSource(source, crc64nvme, what)
        with self._connection.calling(key, source=checked):
            answer = self._connection.bucket.upload_part(self._name(key), upload_id, number, checked)
        require_store(checked.crc64xz, answer.crc, what)
        return _tag(number, len(source), answer.etag, checked.crc64xz, crc64nvme)

    def copy(self, key: str, origin: Origin, source: Source, crc64nvme: int) -> ObjectInfo:
        """Asks for the head of what came out: its size and checksum are OSS's word on the copy."""
        watched, what = WatchedSource(source), f"{key}, copied from {origin.key}"
        with copying(self._connection, what, source=watched):
            meant = crc64xz_of(watched)
            answer = self._connection.bucket.copy_object(
                self._options.bucket, self._name(origin.key), self._name(key), headers=whole_headers(origin)
            )
            answer.resp.read()
        return replace(self._proven(key, len(source), meant, what, answer.etag), crc64nvme=crc64nvme)

    def copy_part(
        self, key: str, upload_id: str, number: int, offset: int, origin: Origin, source: Source, crc64nvme: int
    ) -> PartTag:
        watched, what = WatchedSource(source), f"{key}, part {number}, copied from {origin.key}"
        with copying(self._connection, what, source=watched):
            meant = crc64xz_of(watched)
            answer = self._connection.bucket.upload_part_copy(
                self._options.bucket, self._name(origin.key), (offset, offset + len(source) - 1), self._name(key),
                upload_id, number, headers=copy_headers(origin),
            )  # fmt: skip
            answer.resp.read()
            require_copied_part(answer.crc, answer.etag or "", meant, watched, what)
        return _tag(number, len(source), answer.etag, meant, crc64nvme)

    def finish(self, key: str, upload_id: str, parts: Sequence[PartTag], crc64nvme: int) -> ObjectInfo:
        ordered = sorted(parts, key=lambda part: part.number)
        size, meant = sum(part.size for part in ordered), _whole(ordered)
        require_equal(crc64nvme, combined(ordered), key)
        listed = [PartInfo(part.number, part.tag.partition(" ")[0]) for part in ordered]
        try:
            with self._connection.calling(key):
                answer = self._connection.bucket.complete_multipart_upload(self._name(key), upload_id, listed)
                answer.resp.read()
            found = self._proven(key, size, meant, key, answer.etag)
        except UploadGone as error:
            # Perhaps this very call succeeded before and its answer was lost.
            try:
                found = self._confirmed(key, size, meant, key)
            except (NotFound, ChecksumMismatch):
                raise error from None
        return replace(found, crc64nvme=crc64nvme)

    def abort(self, key: str, upload_id: str) -> None:
        with suppress(UploadGone, NotFound), self._connection.calling(key):
            self._connection.bucket.abort_multipart_upload(self._name(key), upload_id)

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        key_marker = id_marker = ""
        while True:
            with self._connection.calling(prefix):
                page = self._connection.bucket.list_multipart_uploads(
                    prefix=self._name(prefix), key_marker=key_marker, upload_id_marker=id_marker, max_uploads=_PAGE
                )
            for entry in page.upload_list:
                yield PendingUpload(self._key(entry.key), entry.upload_id, float(entry.initiation_date))
            if not page.is_truncated:
                return
            key_marker, id_marker = page.next_key_marker, page.next_upload_id_marker

    def head(self, key: str) -> ObjectInfo | None:
        """OSS says in a header of the answer why there is nothing: a missing bucket is not an absent object."""
        try:
            with self._connection.calling(key):
                return self._info(key, self._connection.bucket.head_object(self._name(key)))
        except NotFound:
            return None

    def read(
        self, key: str, offset: int, target: memoryview, *, etag: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        if body := self._body(key, offset, len(target), etag):
            pour(body, target, on_bytes, self._connection.where.what(key))

    def stream(
        self, key: str, offset: int, length: int, window: memoryview, on_block: Callable[[memoryview], None], *,
        etag: str | None = None,
    ) -> None:  # fmt: skip
        if body := self._body(key, offset, length, etag):
            flow(body, length, window, on_block, self._connection.where.what(key))

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Keys that end in a slash are left out: consoles make such objects to show empty folders."""
        token, after = "", self._name(start_after) if start_after else ""
        while True:
            with self._connection.calling(prefix):
                page = self._connection.bucket.list_objects_v2(
                    prefix=self._name(prefix), start_after=after, continuation_token=token, max_keys=_PAGE
                )
            for entry in page.object_list:
                if not entry.key.endswith("/"):
                    yield ObjectInfo(self._key(entry.key), entry.size, entry.etag, float(entry.last_modified))
            if not page.is_truncated:
                return
            token = page.next_continuation_token

    def delete(self, keys: Sequence[str]) -> None:
        with self._connection.calling(""):
            delete_all(self._connection, self._options.prefix, keys)

    def close(self) -> None:
        self._connection.close()

    # What the methods above share.

    def _name(self, key: str) -> str:
        return self._options.prefix + key

    def _key(self, name: str) -> str:
        return name[len(self._options.prefix) :]

    def _body(self, key: str, offset: int, length: int, etag: str | None) -> Any:
        """The answer's body; None where there is nothing to read.

        The version is compared here, in the head of the answer, before a byte of it is taken.
        """
        if not length:
            self._require_version(key, etag, offset)
            return None
        end = offset + length
        try:
            with self._connection.calling(key):
                # Without this header OSS answers a range that is not there with the whole object.
                answer = self._connection.bucket.get_object(
                    self._name(key), (offset, end - 1), {"x-oss-range-behavior": "standard"}
                )
        except BackendError as error:
            if error_code(error.__cause__ or error) in {"InvalidRange", "416"}:
                raise ObjectChanged(f"{key}: it has fewer than {end} bytes") from error
            raise
        body = answer.resp.response.raw
        came = f"bytes {offset}-{end - 1}/"
        if etag and answer.etag != etag:
            body.close()
            raise ObjectChanged(f"{key}: it is not the version that was asked for any more")
        if not (answer.content_range or "").startswith(came):
            body.close()
            raise ObjectChanged(f"{key}: bytes {offset} to {end} were asked for, {answer.content_range or 'all'} came")
        return body

    def _info(self, key: str, answer: Any) -> ObjectInfo:
        return ObjectInfo(key, answer.content_length, answer.etag, float(answer.last_modified))

    def _require_version(self, key: str, etag: str | None, end: int) -> None:
        found = self.head(key)
        if found is None:
            raise NotFound(f"{key}: no such object")
        if (etag and found.etag != etag) or found.size < end:
            raise ObjectChanged(f"{key}: it is not the version that was asked for any more")

    def _require_condition(self, key: str, if_match: str | None) -> None:
        """OSS replaces no version by name, and in buckets with versions it never refuses: looked up just before, which
        leaves a gap.
        """
        current = self.head(key)
        if (current is not None and not if_match) or (if_match and (current is None or current.etag != if_match)):
            raise PreconditionFailed(f"{key}: somebody else wrote it first")

    def _confirmed(self, key: str, size: int, crc: int, what: str) -> ObjectInfo:
        """What lies at `key` now is what was meant. Raises NotFound, ChecksumMismatch."""
        with self._connection.calling(key):
            answer = self._connection.bucket.head_object(self._name(key))
        if answer.content_length != size:
            raise ChecksumMismatch(f"{what}: OSS holds {answer.content_length} bytes where {size} were meant")
        require_store(crc, answer.server_crc, what)
        return self._info(key, answer)

    def _proven(self, key: str, size: int, crc: int, what: str, etag: str | None) -> ObjectInfo:
        """`_confirmed` of what was just made with that ETag; other bytes do not stay."""
        try:
            return self._confirmed(key, size, crc, what)
        except ChecksumMismatch:
            self._take_back(key, etag)
            raise

    def _take_back(self, key: str, etag: str | None) -> None:
        """Other bytes than were sent are visible at `key`: gone again, unless somebody has replaced them."""
        found = self.head(key)
        if found is not None and found.etag == etag:
            self.delete([key])


def _whole(parts: Sequence[PartTag]) -> int:
    """CRC-64/XZ of the object the parts make, in their order."""
    crc = 0
    for part in parts:
        crc = combine_crc64xz(crc, int(part.tag.partition(" ")[2], 16), part.size)
    return crc


def _tag(number: int, size: int, etag: str, crc: int, crc64nvme: int) -> PartTag:
    return PartTag(number, size, f"{etag} {crc:016x}", crc64nvme)


def _date(answer: Any) -> float:
    """The store's clock, from the answer's head: PUT says no more about when."""
    try:
        return parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return 0.0
