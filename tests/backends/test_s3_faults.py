"""S3 with trouble on the wire: a real server behind a proxy that breaks what it is told to break."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from awscrt.checksums import crc64nvme
from servers.fault_proxy import Fault, FaultProxy
from sources import MIB, Memory, keys, put, put_part, read

from backends.errors import (
    BackendError,
    BadConfiguration,
    BucketMissing,
    ChecksumMismatch,
    CredentialsRefused,
    NoSpace,
    NotFound,
    PreconditionFailed,
    Unavailable,
    UploadGone,
)
from backends.s3 import S3Backend

pytestmark = pytest.mark.s3

PART = os.urandom(5 * MIB)
TAIL = b"the end"


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
def store(open_with: Callable[..., S3Backend], proxy: FaultProxy) -> S3Backend:
    backend = open_with(read_timeout="2")
    put(backend, "ready", b"")  # what the store can is found out: the faults below meet the calls they are meant for
    proxy.seen.clear()
    return backend


def one_attempt(proxy: FaultProxy) -> None:
    assert len(proxy.seen) == 1, proxy.seen
    assert proxy.unused == 0


class TestAnswers:
    @pytest.mark.parametrize(
        ("status", "code", "kind", "hint"),
        [
            (500, "InternalError", Unavailable, ""),
            (503, "SlowDown", Unavailable, ""),
            (503, "ServiceUnavailable", Unavailable, ""),
            (429, "TooManyRequests", Unavailable, ""),
            (502, "WhoKnows", Unavailable, ""),
            (400, "RequestTimeout", Unavailable, ""),
            (409, "ConditionalRequestConflict", Unavailable, ""),
            (400, "ExpiredToken", CredentialsRefused, "expired"),
            (403, "InvalidAccessKeyId", CredentialsRefused, "AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", CredentialsRefused, "AWS_SECRET_ACCESS_KEY"),
            (403, "AccessDenied", CredentialsRefused, "PutObject"),
            (403, "RequestTimeTooSkewed", CredentialsRefused, "clock"),
            (404, "NoSuchBucket", BucketMissing, "create the bucket"),
            (400, "BadDigest", ChecksumMismatch, ""),
            (412, "PreconditionFailed", PreconditionFailed, ""),
            (507, "XMinioStorageFull", NoSpace, "full"),
            (403, "QuotaExceeded", NoSpace, "quota"),
            (400, "KeyTooLongError", BackendError, "1,024"),
            (400, "EntityTooSmall", BackendError, ""),
        ],
    )
    def test_a_refused_put_says_what_it_was_and_what_to_do(
        self, store: S3Backend, proxy: FaultProxy, status: int, code: str, kind: type[BackendError], hint: str
    ) -> None:
        proxy.inject(Fault("PUT", answer=status, code=code))
        with pytest.raises(BackendError) as caught:
            put(store, "run/key", PART)
        assert type(caught.value) is kind
        assert hint in caught.value.hint
        if kind is not BucketMissing:
            assert "run/key" in caught.value.message
            assert code in caught.value.message
        one_attempt(proxy)
        put(store, "run/key", PART)

    def test_the_wait_the_store_asks_for_is_handed_on(self, store: S3Backend, proxy: FaultProxy) -> None:
        proxy.inject(Fault("PUT", answer=503, code="SlowDown", retry_after=7))
        with pytest.raises(Unavailable) as caught:
            put(store, "a", PART)
        assert caught.value.retry_after == 7.0
        assert caught.value.retryable

    @pytest.mark.parametrize(("status", "kind"), [(403, CredentialsRefused), (500, Unavailable), (503, Unavailable)])
    def test_an_answer_to_head_has_no_body_and_is_understood(
        self, store: S3Backend, proxy: FaultProxy, status: int, kind: type[BackendError]
    ) -> None:
        proxy.inject(Fault("HEAD", answer=status))
        with pytest.raises(kind):
            store.head("ready")

    def test_a_refused_head_says_why(self, store: S3Backend, proxy: FaultProxy) -> None:
        proxy.expired.add("ckptd-test")
        with pytest.raises(CredentialsRefused) as caught:
            store.head("ready")
        proxy.expired.clear()
        assert "ExpiredToken" in caught.value.message
        assert "expired" in caught.value.hint
        assert store.head("ready") is not None

    @pytest.mark.parametrize(
        ("ahead_s", "said"),
        [
            (-3720, "62 minutes behind the store's"),
            (3720, "62 minutes ahead of"),
            (30, "30 s ahead of"),
            (None, "injected"),
        ],
    )
    def test_a_refused_clock_is_told_with_how_far_it_is_off(
        self, store: S3Backend, proxy: FaultProxy, ahead_s: int | None, said: str
    ) -> None:
        date = () if ahead_s is None else (("Date", formatdate(time.time() - ahead_s, usegmt=True)),)
        proxy.inject(Fault("PUT", answer=403, code="RequestTimeTooSkewed", headers=date))
        with pytest.raises(CredentialsRefused) as caught:
            put(store, "a", PART)
        assert said in re.sub(r"(29|31) s", "30 s", str(caught.value))  # the header has whole seconds

    def test_an_endpoint_that_does_not_have_the_bucket_is_named_with_the_one_that_has(
        self, store: S3Backend, proxy: FaultProxy
    ) -> None:
        """Also where the store does not say the region or the endpoint."""
        bucket = store._options.bucket
        for said, hint in (
            (f"<Endpoint>{bucket}.s3.example.com</Endpoint>", 'endpoint_url = "https://s3.example.com"'),
            ("", "endpoint_url to where it is served"),
        ):
            proxy.inject(Fault("PUT", answer=301, body=f"<Error><Code>PermanentRedirect</Code>{said}</Error>"))
            with pytest.raises(BadConfiguration) as caught:
                put(store, "a", PART)
            assert proxy.endpoint in caught.value.message
            assert "region to the bucket's own" in caught.value.hint
            assert hint in caught.value.hint

    def test_a_bucket_of_another_region_is_named(self, store: S3Backend, proxy: FaultProxy) -> None:
        region = (("x-amz-bucket-region", "eu-central-1"),)
        proxy.inject(Fault("PUT", answer=301, code="PermanentRedirect", headers=region), times=5)
        proxy.inject(Fault("HEAD", answer=301, headers=region), times=5)
        with pytest.raises(BadConfiguration) as caught:
            put(store, "a", PART)
        assert 'region = "eu-central-1"' in caught.value.hint

    @pytest.mark.parametrize(
        "call",
        [
            lambda store: store.begin("a", 1),
            lambda store: store.head("ready"),
            lambda store: read(store, "ready2", 1),
            keys,
            lambda store: list(store.pending("")),
            lambda store: store.delete(["a"]),
            lambda store: store.probe(),
            lambda store: store.abort("a", "crc64nvme:x"),
        ],
    )
    def test_every_call_makes_one_attempt_and_reports_it(
        self, store: S3Backend, proxy: FaultProxy, call: Callable[[S3Backend], None]
    ) -> None:
        proxy.inject(Fault(answer=503, code="SlowDown"))
        with pytest.raises(Unavailable):
            call(store)
        one_attempt(proxy)

    def test_one_key_that_cannot_be_deleted_is_reported_by_name(self, store: S3Backend, proxy: FaultProxy) -> None:
        error = f"<Error><Key>{store._options.prefix}ready</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        proxy.inject(Fault("POST", "delete", answer=200, body=f"<DeleteResult>{error}</DeleteResult>"))
        with pytest.raises(CredentialsRefused, match="ready"):
            store.delete(["ready", "b"])

    @pytest.mark.parametrize("code", ["NotImplemented", "MissingContentMD5"])
    def test_a_store_without_batches_gets_one_deletion_a_key(
        self, store: S3Backend, proxy: FaultProxy, code: str
    ) -> None:
        put(store, "b", b"x")
        proxy.inject(Fault("POST", "delete", answer=501 if code == "NotImplemented" else 400, code=code))
        store.delete(["ready", "b", "absent"])
        assert keys(store) == []


class TestConnections:
    def test_a_store_that_is_down_is_unavailable(self, store: S3Backend, proxy: FaultProxy) -> None:
        proxy.refuse = True
        for call in (lambda: put(store, "a", PART), lambda: store.head("a"), lambda: keys(store), store.probe):
            with pytest.raises(Unavailable):
                call()
        proxy.refuse = False
        put(store, "a", PART)

    def test_a_reset_in_the_middle_of_a_part_is_unavailable(self, store: S3Backend, proxy: FaultProxy) -> None:
        upload = store.begin("a", len(PART))
        proxy.inject(Fault("PUT", "partNumber=1", reset_after=2 * MIB))
        with pytest.raises(Unavailable):
            put_part(store, "a", upload, 1, 0, PART)
        assert proxy.unused == 0
        store.finish("a", upload, [put_part(store, "a", upload, 1, 0, PART)], crc64nvme(PART))
        assert read(store, "a", len(PART)) == PART

    @pytest.mark.parametrize(
        "fault",
        [Fault("PUT", stall_after=MIB, stall=60), Fault("PUT", delay=60)],
        ids=["in the body", "before the answer"],
    )
    def test_a_stall_while_sending_ends_in_time(self, store: S3Backend, proxy: FaultProxy, fault: Fault) -> None:
        proxy.inject(fault)
        started = time.monotonic()
        with pytest.raises(Unavailable):
            put(store, "a", b"x" * MIB * 2)
        assert time.monotonic() - started < 50

    @pytest.mark.parametrize(
        "fault",
        [
            Fault("GET", reset_answer_after=2 * MIB),
            Fault("GET", cut_answer_after=2 * MIB),
            Fault("GET", stall_answer_after=2 * MIB, stall=60),
            Fault("GET", reset_answer_after=0),
        ],
        ids=["reset", "closed", "stalled", "no answer"],
    )
    def test_an_answer_that_breaks_off_is_unavailable_and_can_be_read_again(
        self, store: S3Backend, proxy: FaultProxy, fault: Fault
    ) -> None:
        put(store, "a", PART)
        proxy.inject(fault)
        counts: list[int] = []
        with pytest.raises(Unavailable):
            read(store, "a", len(PART), on_bytes=counts.append)
        assert proxy.unused == 0
        assert sum(counts) < len(PART)
        assert read(store, "a", len(PART)) == PART

    def test_a_connection_is_used_again(self, store: S3Backend, proxy: FaultProxy) -> None:
        before = proxy.connections
        for n in range(5):
            put(store, f"{n}", PART)
            assert read(store, f"{n}", len(PART)) == PART
        assert proxy.connections == before

    def test_a_finish_whose_answer_is_lost_can_be_repeated(self, store: S3Backend, proxy: FaultProxy) -> None:
        upload = store.begin("a", len(PART))
        parts = [put_part(store, "a", upload, 1, 0, PART)]
        proxy.inject(Fault("POST", "uploadId", reset_answer_after=0))
        with pytest.raises(Unavailable):
            store.finish("a", upload, parts, crc64nvme(PART))
        proxy.inject(Fault("POST", "uploadId", answer=404, code="NoSuchUpload"))  # as AWS says then
        assert store.finish("a", upload, parts, crc64nvme(PART)).size == len(PART)
        assert proxy.unused == 0

    def test_a_finish_that_failed_under_an_older_object_is_gone(self, store: S3Backend, proxy: FaultProxy) -> None:
        put(store, "a", b"older")
        upload = store.begin("a", len(PART))
        parts = [put_part(store, "a", upload, 1, 0, PART)]
        proxy.inject(Fault("POST", "uploadId", answer=404, code="NoSuchUpload"))
        with pytest.raises(UploadGone):
            store.finish("a", upload, parts, crc64nvme(PART))


def test_a_part_is_read_once_so_nothing_hashes_it_before_it_is_sent(store: S3Backend) -> None:
    class Counting(Memory):
        passed = 0

        def read(self, size: int = -1, /) -> bytes | memoryview:
            block = super().read(size)
            self.passed += len(block)
            return block

    source = Counting(PART)
    upload = store.begin("a", len(PART))
    store.put_part("a", upload, 1, 0, source, crc64nvme(PART))
    assert source.passed == len(PART)
    store.abort("a", upload)


class TestChecksums:
    """With each kind of checksum a store may be able to compare."""

    @pytest.fixture(params=["crc64nvme", "crc32c", "md5", "none"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_parts_and_wholes_go_up_and_come_back(self, open_with: Callable[..., S3Backend], kind: str) -> None:
        store, other = open_with(checksum=kind), open_with(checksum="auto")
        assert put(store, "small", b"abc").crc64nvme == crc64nvme(b"abc")
        upload = store.begin("a", len(PART) + len(TAIL))
        # Another process, with settings of its own, goes on the way the upload was begun.
        parts = [
            put_part(other, "a", upload, 2, len(PART), TAIL),
            put_part(store, "a", upload, 1, 0, PART),
        ]
        info = other.finish("a", upload, parts, crc64nvme(PART + TAIL))
        assert (info.size, info.crc64nvme) == (len(PART) + len(TAIL), crc64nvme(PART + TAIL))
        assert read(store, "a", info.size, etag=info.etag) == PART + TAIL

    def test_a_byte_that_flips_on_its_way_up_is_noticed(
        self, open_with: Callable[..., S3Backend], proxy: FaultProxy, kind: str
    ) -> None:
        store = open_with(checksum=kind)
        upload = store.begin("a", len(PART))
        proxy.inject(Fault("PUT", "partNumber", corrupt_at=3 * MIB))
        if kind == "none":  # the store takes it: only the reading back at the end can tell
            part = put_part(store, "a", upload, 1, 0, PART)
            with pytest.raises(ChecksumMismatch):
                store.finish("a", upload, [part], crc64nvme(PART))
        else:
            with pytest.raises(ChecksumMismatch):
                put_part(store, "a", upload, 1, 0, PART)
        proxy.inject(Fault("PUT", "/b$", corrupt_at=3 * MIB))
        with pytest.raises(ChecksumMismatch):
            put(store, "b", PART)
        assert proxy.unused == 0

    @pytest.mark.parametrize(("refused", "found"), [(0, "crc64nvme"), (1, "crc32c"), (2, "md5"), (3, "none")])
    def test_auto_takes_the_best_the_store_really_compares(
        self, open_with: Callable[..., S3Backend], proxy: FaultProxy, refused: int, found: str
    ) -> None:
        store = open_with()
        if refused:
            proxy.inject(Fault("PUT", "probe-", answer=400, code="InvalidArgument"), times=refused)
        store.probe()
        assert store.capabilities.store_checksum == found
        assert proxy.unused == 0
        assert keys(store) == []

    def test_auto_does_not_take_trouble_for_an_answer(
        self, open_with: Callable[..., S3Backend], proxy: FaultProxy
    ) -> None:
        store = open_with()
        proxy.inject(Fault("PUT", "probe-", answer=503, code="SlowDown"))
        with pytest.raises(Unavailable):
            put(store, "a", b"x")
        put(store, "a", b"x")
        assert store.capabilities.store_checksum == "crc64nvme"

    def test_bytes_that_flip_on_their_way_down_are_the_callers_to_notice(
        self, store: S3Backend, proxy: FaultProxy
    ) -> None:
        put(store, "a", PART)
        proxy.inject(Fault("GET", corrupt_answer_at=1234))
        assert crc64nvme(read(store, "a", len(PART))) != crc64nvme(PART)


class TestConditions:
    def test_a_store_that_knows_no_conditions_is_found_out_and_asked_before(
        self, open_with: Callable[..., S3Backend], proxy: FaultProxy
    ) -> None:
        store = open_with(checksum="crc64nvme")
        proxy.inject(Fault("PUT", "probe-", answer=501, code="NotImplemented"))
        store.probe()
        assert not store.capabilities.conditional_put
        put(store, "a", b"first", if_absent=True)
        with pytest.raises(PreconditionFailed):
            put(store, "a", b"second", if_absent=True)
        with pytest.raises(PreconditionFailed):
            put(store, "a", b"second", if_match='"other"')
        assert read(store, "a", 5) == b"first"

    def test_if_match_of_what_is_gone_failed_whatever_the_store_calls_it(
        self, store: S3Backend, proxy: FaultProxy
    ) -> None:
        proxy.inject(Fault("PUT", answer=404, code="NoSuchKey"))  # AWS
        with pytest.raises(PreconditionFailed):
            put(store, "a", b"1", if_match='"x"')


class TestBadInput:
    def test_a_missing_bucket_is_named_by_every_call(self, s3_proxied: Any) -> None:
        store = S3Backend.from_url("s3://ckptd-no-such-bucket/x", s3_proxied.options | {"checksum": "crc64nvme"})
        for call in (store.probe, lambda: keys(store), lambda: store.head("a")):
            with pytest.raises(BucketMissing, match="ckptd-no-such-bucket"):
                call()
        store.close()

    @pytest.mark.parametrize(
        ("variable", "value", "hint"),
        [
            ("AWS_SECRET_ACCESS_KEY", "wrong", "AWS_SECRET_ACCESS_KEY"),
            ("AWS_ACCESS_KEY_ID", "nobody", "AWS_ACCESS_KEY_ID"),
        ],
    )
    def test_wrong_credentials_are_refused_at_the_probe(
        self, s3_remote: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, hint: str
    ) -> None:
        monkeypatch.setenv(variable, value)
        store = S3Backend.from_url(s3_remote.url, s3_remote.options)
        with pytest.raises(CredentialsRefused) as caught:
            store.probe()
        assert hint in caught.value.hint
        store.close()

    def test_no_credentials_at_all_are_refused_at_the_probe(
        self, s3_remote: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        store = S3Backend.from_url(s3_remote.url, s3_remote.options)
        with pytest.raises(CredentialsRefused) as caught:
            store.probe()
        assert "profile" in caught.value.hint
        store.close()

    def test_renewed_credentials_are_found_without_a_restart(
        self, s3_server: Any, s3_remote: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        mounted = tmp_path / "credentials"
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(mounted))
        text = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
        mounted.write_text(text.format(s3_server.access_key, "expired"))
        store = S3Backend.from_url(s3_remote.url, s3_remote.options)
        for _ in range(2):
            with pytest.raises(CredentialsRefused):
                put(store, "a", b"x")
        mounted.write_text(text.format(s3_server.access_key, s3_server.secret_key))
        put(store, "a", b"x")
        store.delete(["a"])
        store.close()

    def test_head_of_an_absent_object_is_not_a_missing_bucket(self, store: S3Backend) -> None:
        assert store.head("absent") is None
        with pytest.raises(NotFound):
            read(store, "absent", 1)

    def test_the_caller_hears_its_own_exception_even_inside_the_client(self, store: S3Backend) -> None:
        class Stopped(BaseException):
            pass

        class Stopping(Memory):
            def read(self, size: int = -1, /) -> bytes | memoryview:
                raise Stopped

        with pytest.raises(Stopped):
            store.put("a", Stopping(PART), crc64nvme(PART))
        put(store, "a", PART)
