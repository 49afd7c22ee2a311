"""OSS with trouble: on the wire (a proxy that breaks what it is told to break), and from a store that says no."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from awscrt.checksums import crc64nvme
from servers.fault_proxy import Fault, FaultProxy
from servers.oss_server import OssGateway, OssRemote
from servers.oss_store import flip
from sources import MIB, Memory, keys, put, put_part, read

from backends.base import Origin, PartTag
from backends.errors import (
    BackendError,
    BadConfiguration,
    BucketMissing,
    ChecksumMismatch,
    CredentialsRefused,
    NotSupported,
    PreconditionFailed,
    Unavailable,
    UploadGone,
)
from backends.oss import OssBackend

pytestmark = pytest.mark.oss

PART = os.urandom(3 * MIB)
TAIL = b"the end"


@pytest.fixture
def proxy(oss_proxied: OssRemote) -> FaultProxy:
    assert isinstance(oss_proxied.proxy, FaultProxy)
    return oss_proxied.proxy


@pytest.fixture
def open_with(oss_proxied: OssRemote, oss_gateway: OssGateway) -> Iterator[Callable[..., OssBackend]]:
    opened: list[OssBackend] = []

    def opener(url: str = "", **options: str) -> OssBackend:
        opened.append(OssBackend.from_url(url or oss_proxied.url, oss_proxied.options | options))
        return opened[-1]

    yield opener
    oss_proxied.proxy.heal()
    oss_gateway.reset()
    opener().delete(keys(opened[-1]))
    for backend in opened:
        backend.close()


@pytest.fixture
def store(open_with: Callable[..., OssBackend], proxy: FaultProxy) -> OssBackend:
    backend = open_with(read_timeout="2")
    put(backend, "ready", b"")
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
            (503, "ServerBusy", Unavailable, ""),
            (503, "QpsLimitExceeded", Unavailable, ""),
            (502, "WhoKnows", Unavailable, ""),
            (400, "RequestTimeout", Unavailable, ""),
            (403, "UserDisable", CredentialsRefused, "account"),
            (400, "InvalidObjectName", BackendError, "1,023"),
            (409, "FileImmutable", BackendError, "retention"),
            (403, "InvalidObjectState", BackendError, "archived"),
            (400, "InvalidDigest", ChecksumMismatch, ""),
            (409, "FileAlreadyExists", PreconditionFailed, ""),
        ],
    )
    def test_a_refused_put_says_what_it_was_and_what_to_do(
        self, store: OssBackend, proxy: FaultProxy, status: int, code: str, kind: type[BackendError], hint: str
    ) -> None:
        proxy.inject(Fault("PUT", answer=status, code=code))
        with pytest.raises(BackendError) as caught:
            put(store, "run/key", PART)
        assert type(caught.value) is kind
        assert hint in caught.value.hint
        assert "run/key" in caught.value.message
        assert code in caught.value.message
        one_attempt(proxy)
        put(store, "run/key", PART)

    def test_the_wait_the_store_asks_for_is_handed_on(self, store: OssBackend, proxy: FaultProxy) -> None:
        proxy.inject(Fault("PUT", answer=503, code="ServerBusy", retry_after=7))
        with pytest.raises(Unavailable) as caught:
            put(store, "a", PART)
        assert caught.value.retry_after == 7.0
        assert caught.value.retryable

    @pytest.mark.parametrize("answer", ["<html>a proxy's page</html>", "", "<Error>"])
    def test_what_is_no_answer_of_oss_is_said_to_be_none(
        self, store: OssBackend, proxy: FaultProxy, answer: str
    ) -> None:
        proxy.inject(Fault("GET", answer=200, body=answer or " "))
        with pytest.raises(Unavailable) as caught:
            keys(store)
        assert "speak OSS" in caught.value.hint

    def test_a_redirect_is_not_followed(self, store: OssBackend, proxy: FaultProxy) -> None:
        elsewhere = (("Location", "http://127.0.0.1:1/elsewhere"),)
        proxy.inject(Fault("PUT", answer=307, headers=elsewhere))
        with pytest.raises(BadConfiguration) as caught:
            put(store, "a", b"1")
        assert "endpoint_url" in caught.value.hint
        one_attempt(proxy)

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
            lambda store: store.abort("a", "x"),
        ],
    )
    def test_every_call_makes_one_attempt_and_reports_it(
        self, store: OssBackend, proxy: FaultProxy, call: Callable[[OssBackend], None]
    ) -> None:
        proxy.inject(Fault(answer=503, code="ServerBusy"))
        with pytest.raises(Unavailable):
            call(store)
        one_attempt(proxy)

    def test_a_key_that_was_not_deleted_is_reported_by_name(self, store: OssBackend, proxy: FaultProxy) -> None:
        gone = f"<Deleted><Key>{store._options.prefix}b</Key></Deleted>"
        proxy.inject(Fault("POST", "delete", answer=200, body=f"<DeleteResult>{gone}</DeleteResult>"))
        with pytest.raises(CredentialsRefused, match="ready"):
            store.delete(["ready", "b"])


class TestRefusals:
    """What OSS refuses is refused by the gateway, from the signature on, and each says what to do about it."""

    @pytest.mark.parametrize("signature", ["v4", "v1"])
    @pytest.mark.parametrize(
        ("control", "named", "hint"),
        [
            ({"keys": {"ckptd-test": {"secret": "other"}}}, "SignatureDoesNotMatch", "OSS_ACCESS_KEY_SECRET"),
            ({"keys": {}}, "InvalidAccessKeyId", "OSS_ACCESS_KEY_ID"),
            ({"keys": {"ckptd-test": {"secret": "x", "token": "t"}}}, "InvalidSecurityToken", "OSS_SESSION_TOKEN"),
            ({"clock": 3600.0}, "RequestTimeTooSkewed", "clock"),
            ({"clock": -3600.0}, "RequestTimeTooSkewed", "clock"),
        ],
    )
    def test_credentials_and_clocks(
        self, open_with: Callable[..., OssBackend], oss_gateway: OssGateway, signature: str, control: Any, named: str,
        hint: str,
    ) -> None:  # fmt: skip
        store = open_with(signature=signature)
        oss_gateway.control(**control)
        for call in (store.probe, lambda: store.head("a"), lambda: put(store, "a", PART)):
            with pytest.raises(CredentialsRefused) as caught:
                call()
            assert named in caught.value.message
            assert hint in caught.value.hint
        oss_gateway.reset()
        store.probe()

    def test_another_region_is_named(self, open_with: Callable[..., OssBackend]) -> None:
        with pytest.raises(BadConfiguration) as caught:
            open_with(region="cn-other").probe()
        assert "region" in caught.value.hint

    @pytest.mark.parametrize(
        ("bucket", "kind", "said", "hint"),
        [
            ("ckptd-missing", BucketMissing, "no such bucket", "create the bucket"),
            ("ckptd-elsewhere", BadConfiguration, "oss-cn-other.aliyuncs.com", "endpoint_url"),
            ("ckptd-foreign", CredentialsRefused, "does not belong to you", "bucket policy"),
        ],
    )
    def test_a_bucket_that_is_not_there_or_not_here_or_not_ours(
        self, open_with: Callable[..., OssBackend], bucket: str, kind: type[BackendError], said: str, hint: str
    ) -> None:
        store = open_with(f"oss://{bucket}/p")
        for call in (store.probe, lambda: store.head("a"), lambda: put(store, "a", b"1")):
            with pytest.raises(kind) as caught:
                call()
            assert said in caught.value.message
            assert hint in caught.value.hint

    def test_a_bucket_that_overwrites_all_the_same_is_found_out_and_asked_before(
        self, open_with: Callable[..., OssBackend]
    ) -> None:
        store = open_with(f"oss://ckptd-versions/{os.urandom(8).hex()}")
        other = open_with(store._connection.where.url)  # as another process, which did not probe
        store.probe()
        assert not store.capabilities.conditional_put
        put(store, "a", b"first", if_absent=True)
        for each in (store, other):
            with pytest.raises(PreconditionFailed):
                put(each, "a", b"second", if_absent=True)
        assert read(store, "a", 5) == b"first"

    def test_parts_that_are_too_small_are_named_with_the_setting(self, store: OssBackend) -> None:
        upload = store.begin("a", 14)
        parts = [put_part(store, "a", upload, 1, 0, TAIL), put_part(store, "a", upload, 2, 7, TAIL)]
        with pytest.raises(BackendError) as caught:
            store.finish("a", upload, parts, crc64nvme(TAIL * 2))
        assert "part_size" in caught.value.hint
        assert store.head("a") is None
        store.abort("a", upload)

    def test_a_part_that_the_store_holds_otherwise_than_its_tag_says_is_not_joined(self, store: OssBackend) -> None:
        upload = store.begin("a", len(PART))
        part = put_part(store, "a", upload, 1, 0, PART)
        put_part(store, "a", upload, 1, 0, PART[::-1])  # by somebody else
        with pytest.raises(UploadGone):
            store.finish("a", upload, [part], crc64nvme(PART))
        assert store.head("a") is None
        store.abort("a", upload)


class TestConnections:
    def test_a_store_that_is_down_is_unavailable(self, store: OssBackend, proxy: FaultProxy) -> None:
        proxy.refuse = True
        for call in (lambda: put(store, "a", PART), lambda: store.head("a"), lambda: keys(store), store.probe):
            with pytest.raises(Unavailable):
                call()
        proxy.refuse = False
        put(store, "a", PART)

    def test_a_reset_in_the_middle_of_a_part_is_unavailable(self, store: OssBackend, proxy: FaultProxy) -> None:
        upload = store.begin("a", len(PART))
        proxy.inject(Fault("PUT", "partNumber=1", reset_after=2 * MIB))
        with pytest.raises(Unavailable):
            put_part(store, "a", upload, 1, 0, PART)
        assert proxy.unused == 0
        store.finish("a", upload, [put_part(store, "a", upload, 1, 0, PART)], crc64nvme(PART))
        assert read(store, "a", len(PART)) == PART

    def test_a_put_that_broke_off_left_nothing(self, store: OssBackend, proxy: FaultProxy) -> None:
        proxy.inject(Fault("PUT", reset_after=2 * MIB))
        with pytest.raises(Unavailable):
            put(store, "a", PART)
        assert store.head("a") is None

    @pytest.mark.parametrize(
        "fault",
        [Fault("PUT", stall_after=MIB, stall=60), Fault("PUT", delay=60)],
        ids=["in the body", "before the answer"],
    )
    def test_a_stall_while_sending_ends_in_time(
        self, open_with: Callable[..., OssBackend], proxy: FaultProxy, fault: Fault
    ) -> None:
        store = open_with(read_timeout="2", connect_timeout="2")
        proxy.inject(fault)
        started = time.monotonic()
        with pytest.raises(Unavailable):
            put(store, "a", b"x" * MIB * 8)
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
        self, store: OssBackend, proxy: FaultProxy, fault: Fault
    ) -> None:
        put(store, "a", PART)
        proxy.inject(fault)
        counts: list[int] = []
        with pytest.raises(Unavailable):
            read(store, "a", len(PART), on_bytes=counts.append)
        assert proxy.unused == 0
        assert sum(counts) < len(PART)
        assert read(store, "a", len(PART)) == PART

    def test_a_connection_is_used_again(self, store: OssBackend, proxy: FaultProxy) -> None:
        before = proxy.connections
        for n in range(5):
            info = put(store, f"{n}", PART)
            assert read(store, f"{n}", len(PART)) == PART
            upload = store.begin(f"{n}-copy", len(PART))
            part = store.copy_part(f"{n}-copy", upload, 1, 0, Origin(f"{n}", info.etag), Memory(PART), crc64nvme(PART))
            store.finish(f"{n}-copy", upload, [part], crc64nvme(PART))
        assert proxy.connections == before

    def test_a_finish_whose_answer_is_lost_can_be_repeated(self, store: OssBackend, proxy: FaultProxy) -> None:
        upload = store.begin("a", len(PART))
        parts = [put_part(store, "a", upload, 1, 0, PART)]
        proxy.inject(Fault("POST", "uploadId", reset_answer_after=0))
        with pytest.raises(Unavailable):
            store.finish("a", upload, parts, crc64nvme(PART))
        assert store.finish("a", upload, parts, crc64nvme(PART)).size == len(PART)
        assert proxy.unused == 0


class TestBytes:
    def test_a_byte_of_a_part_that_flips_on_its_way_up_is_noticed(self, store: OssBackend, proxy: FaultProxy) -> None:
        upload = store.begin("a", len(PART))
        proxy.inject(Fault("PUT", "partNumber", corrupt_at=2 * MIB))
        with pytest.raises(ChecksumMismatch) as caught:
            put_part(store, "a", upload, 1, 0, PART)
        assert caught.value.retryable
        assert proxy.unused == 0
        store.finish("a", upload, [put_part(store, "a", upload, 1, 0, PART)], crc64nvme(PART))
        assert read(store, "a", len(PART)) == PART

    @pytest.mark.parametrize("size", [1000, 3 * MIB])
    def test_a_byte_of_a_whole_that_flips_on_its_way_up_is_noticed_and_not_left(
        self, store: OssBackend, proxy: FaultProxy, size: int
    ) -> None:
        """Small ones OSS refuses by their MD5, so what was there before stays."""
        put(store, "a", b"before")
        proxy.inject(Fault("PUT", "a$", corrupt_at=500))
        with pytest.raises(ChecksumMismatch):
            put(store, "a", PART[:size])
        assert proxy.unused == 0
        if size <= MIB:
            assert read(store, "a", 6) == b"before"
        else:
            assert store.head("a") is None

    def test_a_join_of_other_bytes_than_the_parts_is_noticed(self, store: OssBackend, oss_gateway: OssGateway) -> None:
        """The store loses a bit of a part at rest."""
        upload = store.begin("a", len(PART))
        part = put_part(store, "a", upload, 1, 0, PART)
        newest = max(Path(oss_gateway.folder, "test").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        assert newest.stat().st_size == len(PART)
        flip(newest, MIB)
        with pytest.raises(ChecksumMismatch):
            store.finish("a", upload, [part], crc64nvme(PART))
        assert store.head("a") is None

    def test_tags_of_another_process_are_checked_against_the_whole(self, store: OssBackend) -> None:
        upload = store.begin("a", len(PART))
        part = put_part(store, "a", upload, 1, 0, PART)
        wrong = PartTag(1, part.size, part.tag.partition(" ")[0] + " " + "0" * 16, part.crc64nvme)
        with pytest.raises(ChecksumMismatch):
            store.finish("a", upload, [wrong], crc64nvme(PART))

    def test_a_part_is_read_once_so_nothing_hashes_it_before_it_is_sent(self, store: OssBackend) -> None:
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


class TestCopies:
    def copied(self, store: OssBackend, data: bytes = PART) -> PartTag:
        self.upload = store.begin("new", len(PART))
        origin = Origin("old", put(store, "old", PART).etag)
        return store.copy_part("new", self.upload, 1, 0, origin, Memory(data), crc64nvme(data))

    def test_without_a_checksum_in_the_answer_the_etag_proves_the_part(
        self, store: OssBackend, oss_gateway: OssGateway
    ) -> None:
        oss_gateway.control(quirks=["no-part-crc"])
        part = self.copied(store)
        store.finish("new", self.upload, [part], crc64nvme(PART))
        assert read(store, "new", len(PART)) == PART
        with pytest.raises(NotSupported):
            self.copied(store, PART[::-1])

    def test_where_neither_proves_it_it_is_sent(self, store: OssBackend, oss_gateway: OssGateway) -> None:
        oss_gateway.control(quirks=["no-part-crc", "encrypted"])
        with pytest.raises(NotSupported, match="no checksum"):
            self.copied(store)
        store.finish("new", self.upload, [put_part(store, "new", self.upload, 1, 0, PART)], crc64nvme(PART))

    def test_a_copy_of_other_bytes_does_not_stay(self, store: OssBackend) -> None:
        """What was known of the origin is wrong."""
        origin = Origin("old", put(store, "old", PART).etag)
        with pytest.raises(ChecksumMismatch):
            store.copy("new", origin, Memory(PART[::-1]), crc64nvme(PART[::-1]))
        assert store.head("new") is None

    @pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (405, "MethodNotAllowed")])
    def test_a_store_that_does_not_copy_says_so(
        self, store: OssBackend, proxy: FaultProxy, status: int, code: str
    ) -> None:
        origin = Origin("old", put(store, "old", PART).etag)
        proxy.inject(Fault("PUT", "new$", answer=status, code=code))
        with pytest.raises(NotSupported):
            store.copy("new", origin, Memory(PART), crc64nvme(PART))
