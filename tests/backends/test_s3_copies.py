"""Copies inside S3 with every kind of checksum, and stores that do not copy, or only say so."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from awscrt.checksums import crc64nvme
from servers.fault_proxy import Fault, FaultProxy
from sources import MIB, Memory, keys, put, put_part, read

from backends.base import Origin
from backends.checksum import encode
from backends.errors import BackendError, ChecksumMismatch, NotSupported, Unavailable, UploadGone
from backends.s3 import S3Backend

pytestmark = pytest.mark.s3

FIRST = os.urandom(5 * MIB)
OTHER = os.urandom(5 * MIB)
PART = r"partNumber=1"
XML = (("content-type", "application/xml"),)


@pytest.fixture
def proxy(s3_proxied: Any) -> FaultProxy:
    proxy = s3_proxied.proxy
    assert isinstance(proxy, FaultProxy)
    return proxy


@pytest.fixture
def open_with(s3_proxied: Any) -> Iterator[Callable[..., S3Backend]]:
    opened: list[S3Backend] = []

    def opener(**options: str) -> S3Backend:
        opened.append(S3Backend.from_url(s3_proxied.url, s3_proxied.options | options))
        return opened[-1]

    yield opener
    s3_proxied.proxy.heal()
    for backend in opened:
        backend.delete(keys(backend))
        backend.close()


@pytest.fixture
def store(open_with: Callable[..., S3Backend]) -> S3Backend:
    return open_with()


@pytest.fixture
def origin(store: S3Backend) -> Origin:
    return Origin("old", put(store, "old", FIRST).etag)


def part_answer(etag: str, crc: int | None = None) -> str:
    """What the store says of a copied part, in its own words."""
    return _answer("CopyPartResult", etag, crc)


def _answer(kind: str, etag: str, crc: int | None) -> str:
    checksum = "" if crc is None else f"<ChecksumCRC64NVME>{encode(crc, 8)}</ChecksumCRC64NVME>"
    when = "<LastModified>2026-11-23T00:00:00Z</LastModified>"
    return f"<{kind}>{when}<ETag>&quot;{etag}&quot;</ETag>{checksum}</{kind}>"


def copy_part(store: S3Backend, origin: Origin, upload: str, data: bytes = FIRST) -> Any:
    return store.copy_part("new", upload, 1, 0, origin, Memory(data), crc64nvme(data))


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "none"])
def test_a_copied_part_is_proven_by_every_kind_of_checksum(open_with: Callable[..., S3Backend], checksum: str) -> None:
    store, tail = open_with(checksum=checksum), os.urandom(3 * MIB)
    origin = Origin("old", put(store, "old", OTHER + tail).etag)
    upload = store.begin("new", len(FIRST + tail))
    parts = [
        put_part(store, "new", upload, 1, 0, FIRST),
        store.copy_part("new", upload, 2, 5 * MIB, origin, Memory(tail), crc64nvme(tail)),
    ]
    info = store.finish("new", upload, parts, crc64nvme(FIRST + tail))
    assert read(store, "new", info.size, etag=info.etag) == FIRST + tail


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "md5", "none"])
def test_a_copied_object_is_proven_by_every_kind_of_checksum(
    open_with: Callable[..., S3Backend], checksum: str
) -> None:
    store, data = open_with(checksum=checksum), os.urandom(3 * MIB)
    origin = Origin("old", put(store, "old", data).etag)
    info = store.copy("new", origin, Memory(data), crc64nvme(data))
    assert read(store, "new", info.size, etag=info.etag) == data
    upload = store.begin("as a part", len(data))
    part = store.copy_part("as a part", upload, 1, 0, origin, Memory(data), crc64nvme(data))
    store.finish("as a part", upload, [part], crc64nvme(data))
    assert read(store, "as a part", len(data)) == data


def test_without_a_checksum_of_the_copy_nothing_is_taken_on_trust(open_with: Callable[..., S3Backend]) -> None:
    """SeaweedFS gives CRCs only to those who use them, and its ETag of a longer copy is no MD5."""
    store = open_with(checksum="md5")
    origin = Origin("old", put(store, "old", FIRST).etag)
    upload = store.begin("new", len(FIRST))
    with pytest.raises(NotSupported):
        copy_part(store, origin, upload)
    info = store.finish("new", upload, [put_part(store, "new", upload, 1, 0, FIRST)], crc64nvme(FIRST))
    assert read(store, "new", info.size) == FIRST


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "md5", "none"])
def test_no_kind_of_checksum_takes_other_bytes(open_with: Callable[..., S3Backend], checksum: str) -> None:
    """The origin's version is right, its bytes are others than its manifest says."""
    store = open_with(checksum=checksum)
    origin = Origin("old", put(store, "old", OTHER).etag)
    upload = store.begin("new", len(FIRST))
    with pytest.raises((ChecksumMismatch, NotSupported)):
        store.finish("new", upload, [copy_part(store, origin, upload)], crc64nvme(FIRST))
    store.abort("new", upload)
    with pytest.raises((ChecksumMismatch, NotSupported)):
        store.copy("whole", origin, Memory(FIRST), crc64nvme(FIRST))


@pytest.mark.parametrize("checksum", ["crc64nvme", "none"])
def test_a_longer_object_that_begins_alike_is_no_copy(open_with: Callable[..., S3Backend], checksum: str) -> None:
    store = open_with(checksum=checksum)
    origin = Origin("old", put(store, "old", FIRST + b"more").etag)
    with pytest.raises(ChecksumMismatch):
        store.copy("new", origin, Memory(FIRST), crc64nvme(FIRST))


def test_the_store_gets_no_bytes_of_a_copy(store: S3Backend, origin: Origin, proxy: FaultProxy) -> None:
    before = proxy.body_bytes
    upload = store.begin("new", len(FIRST))
    copy_part(store, origin, upload)
    store.copy("whole", origin, Memory(FIRST), crc64nvme(FIRST))
    assert proxy.body_bytes - before < 1000


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("PUT", answer=501, code="NotImplemented"), NotSupported),
        (Fault("PUT", answer=405, code="MethodNotAllowed"), NotSupported),
        (Fault("PUT", answer=503, code="SlowDown"), Unavailable),
        (Fault("PUT", answer=400, code="InvalidRequest"), BackendError),
        # Stores that copy for long begin to answer before they know how it ends: 200, and an error in the body.
        (Fault("PUT", answer=200, body="<Error><Code>InternalError</Code></Error>", headers=XML), Unavailable),
        (Fault("PUT", reset_answer_after=0), Unavailable),
    ],
    ids=["not implemented", "not allowed", "slow down", "invalid", "error in a good answer", "answer lost"],
)
def test_refused_copies_have_names_and_the_upload_goes_on(
    store: S3Backend, origin: Origin, proxy: FaultProxy, fault: Fault, kind: type[BackendError]
) -> None:
    upload = store.begin("new", len(FIRST))
    proxy.inject(fault, times=2)
    with pytest.raises(kind):
        copy_part(store, origin, upload)
    with pytest.raises(kind):
        store.copy("whole", origin, Memory(FIRST), crc64nvme(FIRST))
    assert proxy.unused == 0
    info = store.finish("new", upload, [put_part(store, "new", upload, 1, 0, FIRST)], crc64nvme(FIRST))
    assert read(store, "new", info.size) == FIRST


class TestOnlySaidSo:
    """A store (or what stands before it) that answers 200 and has not done it, or will not say what it did."""

    def test_a_part_that_is_not_there_is_found_when_the_upload_is_finished(
        self, store: S3Backend, origin: Origin, proxy: FaultProxy
    ) -> None:
        upload = store.begin("new", len(FIRST))
        said = part_answer(hashlib.md5(FIRST).hexdigest(), crc64nvme(FIRST))
        proxy.inject(Fault("PUT", PART, answer=200, body=said, headers=XML))
        part = copy_part(store, origin, upload)
        with pytest.raises(UploadGone):
            store.finish("new", upload, [part], crc64nvme(FIRST))
        assert store.head("new") is None

    def test_an_object_that_is_not_there_is_found_at_once(
        self, store: S3Backend, origin: Origin, proxy: FaultProxy
    ) -> None:
        said = _answer("CopyObjectResult", hashlib.md5(FIRST).hexdigest(), crc64nvme(FIRST))
        proxy.inject(Fault("PUT", "whole", answer=200, body=said, headers=XML))
        with pytest.raises(ChecksumMismatch, match="no such object"):
            store.copy("whole", origin, Memory(FIRST), crc64nvme(FIRST))

    def test_an_older_object_does_not_pass_for_the_copy(
        self, store: S3Backend, origin: Origin, proxy: FaultProxy
    ) -> None:
        put(store, "whole", OTHER)
        said = _answer("CopyObjectResult", hashlib.md5(FIRST).hexdigest(), crc64nvme(FIRST))
        proxy.inject(Fault("PUT", "whole", answer=200, body=said, headers=XML))
        with pytest.raises(ChecksumMismatch):
            store.copy("whole", origin, Memory(FIRST), crc64nvme(FIRST))

    @pytest.mark.parametrize(
        "etag", ["", hashlib.md5(OTHER).hexdigest(), "0123-2", "not an MD5"], ids=["none", "other", "parts", "odd"]
    )
    def test_a_part_without_any_word_on_its_bytes_is_not_taken(
        self, store: S3Backend, origin: Origin, proxy: FaultProxy, etag: str
    ) -> None:
        upload = store.begin("new", len(FIRST))
        proxy.inject(Fault("PUT", PART, answer=200, body=part_answer(etag), headers=XML))
        with pytest.raises(NotSupported):
            copy_part(store, origin, upload)
        store.abort("new", upload)

    @pytest.mark.parametrize("checksum", ["md5", "crc64nvme", "crc32c"])
    def test_its_md5_is_a_word_on_its_bytes_where_no_other_is_needed_to_finish(
        self, open_with: Callable[..., S3Backend], origin: Origin, proxy: FaultProxy, checksum: str
    ) -> None:
        store = open_with(checksum=checksum)
        upload = store.begin("new", len(FIRST))
        said = part_answer(hashlib.md5(FIRST).hexdigest())
        proxy.inject(Fault("PUT", PART, answer=200, body=said, headers=XML))
        if checksum == "md5":
            assert copy_part(store, origin, upload).tag == f'"{hashlib.md5(FIRST).hexdigest()}"'
        else:
            with pytest.raises(NotSupported):
                copy_part(store, origin, upload)
        store.abort("new", upload)

    def test_a_checksum_of_other_bytes_is_a_mismatch(self, store: S3Backend, origin: Origin, proxy: FaultProxy) -> None:
        upload = store.begin("new", len(FIRST))
        said = part_answer(hashlib.md5(FIRST).hexdigest(), crc64nvme(OTHER))
        proxy.inject(Fault("PUT", PART, answer=200, body=said, headers=XML))
        with pytest.raises(ChecksumMismatch):
            copy_part(store, origin, upload)
        store.abort("new", upload)
