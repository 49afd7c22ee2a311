"""`s3://bucket/prefix`: AWS S3 and the stores that speak it (MinIO, Ceph, SeaweedFS, R2, …), through boto3.

One attempt a call, one connection of a pool each; the engine above repeats. A body goes from the caller's memory map to
the socket and from the socket into the caller's memory, never over the Python heap (`caller`, `http_body`). The store
compares checksums: which kind is found out at the first write (`s3_probe`).

An upload's id is `<checksum kind>:<the store's id>`, so that another process finishes it the way it was begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, Self

from awscrt.checksums import crc64nvme as crc64nvme_of

from . import s3_probe
from .base import Capabilities, ObjectInfo, Origin, PartTag, PendingUpload, Source
from .caller import WatchedSource
from .checksum import combined, decode, require_equal
from .errors import (
    BackendError,
    BucketMissing,
    ChecksumMismatch,
    CredentialsRefused,
    NotFound,
    NotSupported,
    ObjectChanged,
    PreconditionFailed,
    Unavailable,
    UploadGone,
)  # fmt: skip
from .http_body import flow, pour
from .s3_checksum import (
    Algorithm,
    begin_arguments,
    body_arguments,
    finish_arguments,
    finish_parts,
    part_tag,
    require_confirmed,
    split_upload_id,
)  # fmt: skip
from .s3_connection import S3Connection
from .s3_copy import copy_arguments, copying, etag_of, require_copied
from .s3_delete import delete_all
from .s3_errors import error_code
from .s3_options import S3Options

_MIB = 1 << 20


class S3Backend:
    """See `backends.base.Backend`."""

    def __init__(self, url: str, options: S3Options) -> None:
        self._options = options
        self._connection = S3Connection(url, options)
        self.capabilities = Capabilities(
            conditional_put=True,
            store_checksum="crc64nvme" if options.checksum == "auto" else options.checksum,
            min_part_size=5 * _MIB,
            max_parts=10_000,
            copies=True,
        )

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, str]) -> Self:
        return cls(url, S3Options.parse(url, options))

    def probe(self) -> None:
        """Lists, then writes, reads and deletes `.ckptd/probe-…` (with a condition, with a wrong checksum)."""
        bucket, prefix = self._options.bucket, self._options.prefix
        try:
            with self._connection.calling(""):
                self._connection.client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        except NotFound as error:  # a 404 that is not S3's own
            raise BucketMissing(error.message, hint=f"does {self._connection.where.endpoint} speak S3?") from error
        except Unavailable as error:
            error.hint = error.hint or f"is {self._connection.where.endpoint} up, and does it speak S3?"
            raise
        self._kind()
        with self._connection.calling(".ckptd/"):
            if not s3_probe.decides_conditions(self._connection.client, bucket, prefix):
                self.capabilities = replace(self.capabilities, conditional_put=False, conditional_replace=False)

    def put(
        self, key: str, source: Source, crc64nvme: int, *, if_absent: bool = False, if_match: str | None = None
    ) -> ObjectInfo:
        kind, watched = self._kind(), WatchedSource(source)
        conditions = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_match} if if_match else {}
        if conditions and not self.capabilities.conditional_put:
            self._require_condition(key, if_absent=if_absent, if_match=if_match)
            conditions = {}
        try:
            with self._connection.calling(key, source=watched):
                arguments = body_arguments(kind, watched, crc64nvme)
                answer = self._connection.client.put_object(**self._at(key), Body=watched, **arguments, **conditions)
        except NotFound as error:  # AWS says this where `if_match` finds nothing to match
            raise PreconditionFailed(error.message) from error
        require_confirmed(kind, answer, key, crc64nvme)
        if kind is Algorithm.NONE:
            self._read_back(key, answer["ETag"], len(source), crc64nvme)
        return ObjectInfo(key, len(source), answer["ETag"], _date(answer), crc64nvme)

    def begin(self, key: str, size: int) -> str:  # noqa: ARG002  (S3 does not ask for the size)
        kind = self._kind()
        with self._connection.calling(key):
            answer = self._connection.client.create_multipart_upload(**self._at(key), **begin_arguments(kind))
        return f"{kind}:{answer['UploadId']}"

    def put_part(self, key: str, upload_id: str, number: int, offset: int, source: Source, crc64nvme: int) -> PartTag:  # noqa: ARG002  (the number orders)
        kind, store_id = split_upload_id(upload_id)
        watched = WatchedSource(source)
        with self._connection.calling(key, source=watched):
            arguments = body_arguments(kind, watched, crc64nvme)
            answer = self._connection.client.upload_part(
                **self._at(key), UploadId=store_id, PartNumber=number, Body=watched, **arguments
            )
        require_confirmed(kind, answer, f"{key}, part {number}", crc64nvme)
        return PartTag(number, len(source), part_tag(kind, answer["ETag"], arguments), crc64nvme)

    def copy(self, key: str, origin: Origin, source: Source, crc64nvme: int) -> ObjectInfo:
        """Asks for the head of what came out: an answer of 200 alone does not prove that there is an object."""
        kind, watched, what = self._kind(), WatchedSource(source), f"{key}, copied from {origin.key}"
        with copying(self._connection, what):
            self._connection.client.copy_object(
                **self._at(key), CopySource=self._at(origin.key), CopySourceIfMatch=origin.etag, **copy_arguments(kind)
            )
        try:
            head = self._head(key)
        except NotFound as error:
            raise ChecksumMismatch(f"{what}: the store said that it did, and has no such object") from error
        if head["ContentLength"] != len(source):
            raise ChecksumMismatch(f"{what}: it holds {head['ContentLength']} bytes where {len(source)} were meant")
        with copying(self._connection, what, source=watched):
            require_copied(kind, head, watched, crc64nvme, what, part=False)
        if kind is Algorithm.NONE:
            self._read_back(key, head["ETag"], len(source), crc64nvme)
        return replace(_info(key, head), crc64nvme=crc64nvme)

    def copy_part(
        self, key: str, upload_id: str, number: int, offset: int, origin: Origin, source: Source, crc64nvme: int
    ) -> PartTag:
        kind, store_id = split_upload_id(upload_id)
        watched, what = WatchedSource(source), f"{key}, part {number}, copied from {origin.key}"
        with copying(self._connection, what, source=watched):
            answer = self._connection.client.upload_part_copy(
                **self._at(key), UploadId=store_id, PartNumber=number,
                CopySource=self._at(origin.key), CopySourceIfMatch=origin.etag,
                CopySourceRange=f"bytes={offset}-{offset + len(source) - 1}",
            )  # fmt: skip
            said = answer.get("CopyPartResult") or {}
            own = require_copied(kind, said, watched, crc64nvme, what, part=True)
        if not etag_of(said):
            raise NotSupported(f"{what}: the store's answer names no part")
        return PartTag(number, len(source), part_tag(kind, etag_of(said), own), crc64nvme)

    def finish(self, key: str, upload_id: str, parts: Sequence[PartTag], crc64nvme: int) -> ObjectInfo:
        kind, store_id = split_upload_id(upload_id)
        ordered = sorted(parts, key=lambda part: part.number)
        size = sum(part.size for part in ordered)
        require_equal(crc64nvme, combined(ordered), key)
        try:
            with self._connection.calling(key):
                self._connection.client.complete_multipart_upload(
                    **self._at(key),
                    UploadId=store_id,
                    MultipartUpload={"Parts": finish_parts(kind, ordered)},
                    **finish_arguments(kind, crc64nvme, size),
                )
        except UploadGone:
            # Perhaps this very call succeeded before and its answer was lost.
            return self._finished_before(kind, key, size, crc64nvme, ordered)
        return self._confirmed(kind, key, size, crc64nvme, ordered)

    def abort(self, key: str, upload_id: str) -> None:
        with suppress(UploadGone, NotFound), self._connection.calling(key):
            self._connection.client.abort_multipart_upload(**self._at(key), UploadId=split_upload_id(upload_id)[1])

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        arguments: dict[str, str] = {"Bucket": self._options.bucket, "Prefix": self._options.prefix + prefix}
        while True:
            with self._connection.calling(prefix):
                page = self._connection.client.list_multipart_uploads(**arguments)
            for entry in page.get("Uploads", ()):
                key = self._key(entry["Key"])
                yield PendingUpload(key, f"{Algorithm.NONE}:{entry['UploadId']}", entry["Initiated"].timestamp())
            if not page.get("IsTruncated"):
                return
            arguments |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def head(self, key: str) -> ObjectInfo | None:
        try:
            answer = self._head(key)
        except NotFound:
            # An answer to HEAD has no body: whether the object is missing or the bucket has to be asked for.
            with suppress(CredentialsRefused), self._connection.calling(""):
                self._require_bucket()
            return None
        return _info(key, answer)

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

    def _body(self, key: str, offset: int, length: int, etag: str | None) -> Any:
        """The answer's body; None where there is nothing to read."""
        if not length:
            self._require_version(key, etag, offset)
            return None
        end = offset + length
        condition = {"IfMatch": etag} if etag else {}
        try:
            with self._connection.calling(key, precondition=ObjectChanged):
                answer = self._connection.client.get_object(
                    **self._at(key), Range=f"bytes={offset}-{end - 1}", **condition
                )
        except BackendError as error:
            if error_code(error.__cause__ or error) in {"InvalidRange", "416"}:
                raise ObjectChanged(f"{key}: it has fewer than {end} bytes") from error
            raise
        first, _, rest = answer.get("ContentRange", "bytes 0-/").removeprefix("bytes ").partition("-")
        if int(first) != offset or answer["ContentLength"] < length:
            answer["Body"].close()
            raise ObjectChanged(f"{key}: bytes {offset} to {end} were asked for, {first}-{rest} came")
        # The response inside botocore's StreamingBody.
        return getattr(answer["Body"], "_raw_stream", answer["Body"])

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Keys that end in a slash are left out: consoles make such objects to show empty folders."""
        arguments: dict[str, str] = {"Bucket": self._options.bucket, "Prefix": self._options.prefix + prefix}
        if start_after:
            arguments["StartAfter"] = self._options.prefix + start_after
        while True:
            with self._connection.calling(prefix):
                page = self._connection.client.list_objects_v2(**arguments)
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):
                    modified = entry["LastModified"].timestamp()
                    yield ObjectInfo(self._key(entry["Key"]), entry["Size"], entry.get("ETag", ""), modified)
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, keys: Sequence[str]) -> None:
        with self._connection.calling(""):
            delete_all(
                self._connection.client, self._options.bucket, self._options.prefix, keys, self._connection.where
            )

    def close(self) -> None:
        self._connection.close()

    # What the methods above share.

    def _kind(self) -> Algorithm:
        kind = self._connection.kind()
        if self.capabilities.store_checksum != kind:
            self.capabilities = replace(self.capabilities, store_checksum=str(kind))
        return kind

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._options.bucket, "Key": self._options.prefix + key}

    def _key(self, name: str) -> str:
        return name[len(self._options.prefix) :]

    def _head(self, key: str) -> dict[str, Any]:
        try:
            with self._connection.calling(key):
                answer: dict[str, Any] = self._connection.client.head_object(**self._at(key), ChecksumMode="ENABLED")
                return answer
        except BackendError as error:
            if error_code(error.__cause__ or error) not in {"400", "401", "403"}:
                raise
            # Without a body it does not say why (an expired token is a bare 400): the same question with one does.
            with self._connection.calling(key):
                self._connection.client.get_object(**self._at(key))["Body"].close()
            raise

    def _require_bucket(self) -> None:
        """HEAD, and no list: it costs less, and a missing bucket has no other 404."""
        try:
            self._connection.client.head_bucket(Bucket=self._options.bucket)
        except Exception as error:
            if error_code(error) in {"404", "NoSuchBucket"}:
                raise BucketMissing(
                    f"{self._connection.where.url}: there is no such bucket at {self._connection.where.endpoint}"
                ) from error
            raise

    def _require_condition(self, key: str, *, if_absent: bool, if_match: str | None) -> None:
        """For stores that ignore conditions: looked up just before, which leaves a gap."""
        current = self.head(key)
        if (if_absent and current is not None) or (if_match and (current is None or current.etag != if_match)):
            raise PreconditionFailed(f"{key}: somebody else wrote it first")

    def _require_version(self, key: str, etag: str | None, end: int) -> ObjectInfo:
        found = self.head(key)
        if found is None:
            raise NotFound(f"{key}: no such object")
        if (etag and found.etag != etag) or found.size < end:
            raise ObjectChanged(f"{key}: it is not the version that was asked for any more")
        return found

    def _confirmed(self, kind: Algorithm, key: str, size: int, crc64nvme: int, parts: Sequence[PartTag]) -> ObjectInfo:
        answer = self._head(key)
        if answer["ContentLength"] != size:
            raise ChecksumMismatch(f"{key}: the store holds {answer['ContentLength']} bytes where {size} were meant")
        require_confirmed(kind, answer, key, crc64nvme, parts)
        if kind is Algorithm.NONE:
            self._read_back(key, answer["ETag"], size, crc64nvme)
        return replace(_info(key, answer), crc64nvme=crc64nvme)

    def _finished_before(
        self, kind: Algorithm, key: str, size: int, crc64nvme: int, parts: Sequence[PartTag]
    ) -> ObjectInfo:
        """UploadGone unless what is at `key` is what the upload would have made."""
        try:
            found = self._confirmed(kind, key, size, crc64nvme, parts)
            if kind is not Algorithm.CRC64NVME:
                self._read_back(key, found.etag, size, crc64nvme)
        except (NotFound, ChecksumMismatch, ObjectChanged) as error:
            raise UploadGone(f"{key}: the store does not know the upload any more") from error
        return found

    def _read_back(self, key: str, etag: str, size: int, crc64nvme: int) -> None:
        buffer = memoryview(bytearray(min(8 * _MIB, max(size, 1))))
        found = 0
        for offset in range(0, size, len(buffer)):
            block = buffer[: min(len(buffer), size - offset)]
            self.read(key, offset, block, etag=etag)
            found = crc64nvme_of(block, found)
        require_equal(crc64nvme, found, key)


def _info(key: str, answer: dict[str, Any]) -> ObjectInfo:
    crc = decode(answer.get("ChecksumCRC64NVME"))
    return ObjectInfo(key, answer["ContentLength"], answer["ETag"], answer["LastModified"].timestamp(), crc)


def _date(answer: dict[str, Any]) -> float:
    """The store's clock, from the answer's head: PUT says no more about when."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    except (KeyError, ValueError):
        return 0.0
