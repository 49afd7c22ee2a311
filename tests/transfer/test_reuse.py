"""What the store holds already is copied there; whatever is wrong with that, the bytes are sent and right."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import pytest
from awscrt.checksums import crc64nvme
from hypothesis import given
from hypothesis import strategies as st
from servers.fault_proxy import Fault
from transfer_world import PART, content, stamp_of, until

from backends.checksum import encode
from backends.posix import PosixBackend
from ckptd.domain.model import Checksums
from ckptd.transfer import calls, sending
from ckptd.transfer.pacing import Pacer
from ckptd.transfer.refusal import Refusal
from ckptd.transfer.reuse import LEAST, PAUSE_S, ROW, CopyBook, Offer, Reusable
from ckptd.transfer.split import parts_of
from ckptd.transfer.task import Task
from ckptd.transfer.transfers import Remote

SIZE = 4 * PART + 100


async def send(transfers, remote, key, path, reuse=None, progress=lambda count: None):
    return await transfers.upload(
        remote, key, str(path), stamp_of(path), journal_key=key, on_bytes=progress, reuse=reuse
    )  # fmt: skip


def changed(data: bytes, *parts: int, part: int = PART) -> bytes:
    """With other bytes in these parts (from 0)."""
    new = bytearray(data)
    for number in parts:
        new[number * part + 5] ^= 0xFF
    return bytes(new)


@pytest.fixture
async def before(transfers, remote, source):
    """The file of the step before, as its manifest describes it."""
    uploaded = await send(transfers, remote, "run/1/model", source(SIZE))
    return Reusable("run/1/model", uploaded.etag, uploaded.checksums)


class TestWhatIsCopied:
    async def test_parts_that_did_not_change_and_nothing_else(self, transfers, remote, source, store, before, tmp_path):
        path, progress = source(SIZE), []
        path.write_bytes(changed(path.read_bytes(), 1))
        sent = transfers.report().sent_bytes
        uploaded = await send(transfers, remote, "run/2/model", path, before, progress.append)
        assert (store / "run/2/model").read_bytes() == path.read_bytes()
        assert uploaded.copied == 3 * PART
        assert transfers.report().sent_bytes - sent == PART + 100  # the end is too short to be worth a request
        assert transfers.report().copied_bytes == 3 * PART
        assert sum(progress) == SIZE
        assert transfers.report().queued_bytes == 0
        assert uploaded.checksums == await transfers.checksum(str(path), stamp_of(path))
        (store / "run/1/model").unlink()
        await transfers.verify_remote(remote, "run/2/model", uploaded.checksums)

    async def test_a_file_of_one_part(self, transfers, remote, source, store):
        path = source(PART)
        first = await send(transfers, remote, "run/1/small", path)
        reuse = Reusable("run/1/small", first.etag, first.checksums)
        again = await send(transfers, remote, "run/2/small", path, reuse)
        assert (again.copied, again.checksums) == (PART, first.checksums)
        assert (store / "run/2/small").read_bytes() == path.read_bytes()
        path.write_bytes(changed(path.read_bytes(), 0))
        third = await send(transfers, remote, "run/3/small", path, reuse)
        assert third.copied == 0
        assert (store / "run/3/small").read_bytes() == path.read_bytes()

    async def test_a_file_that_grew_or_shrank(self, transfers, remote, source, store, before):
        for number, size in enumerate((SIZE + PART, 2 * PART + 7)):
            path = source(SIZE)
            path.write_bytes((path.read_bytes() + content(2 * PART, 9))[:size])
            uploaded = await send(transfers, remote, f"run/2/{number}", path, before)
            assert (store / f"run/2/{number}").read_bytes() == path.read_bytes()
            assert uploaded.copied == min(4, size // PART) * PART

    async def test_nothing_where_it_is_switched_off(self, make, remote, source, before):
        async with make(reuse=False) as transfers:
            assert (await send(transfers, remote, "run/2/model", source(SIZE), before)).copied == 0
            assert transfers.report().sent_bytes == SIZE

    async def test_copies_are_no_speed_and_not_held_back(self, make, remote, source, before):
        async with make(bandwidth=PART // 100) as transfers:  # to send it would take minutes
            path = source(SIZE)
            path.write_bytes(path.read_bytes()[: 4 * PART])
            uploaded = await send(transfers, remote, "run/2/model", path, before)
            assert uploaded.copied == 4 * PART
            assert transfers.report().upload_bytes_per_s == 0


class TestWhatIsWrongIsSent:
    async def test_an_origin_that_is_gone(self, transfers, remote, source, store, before):
        (store / "run/1/model").unlink()
        await self.is_sent(transfers, remote, source, store, before)

    async def test_an_origin_that_was_written_again(self, transfers, remote, source, store, before):
        (store / "run/1/model").write_bytes(content(SIZE, 2))
        await self.is_sent(transfers, remote, source, store, before)

    async def test_an_origin_of_which_the_manifest_lies(self, transfers, remote, source, store, before):
        """Right version, other bytes: what came out of the copy is looked at, not only what went in."""
        other = await send(transfers, remote, "run/1/model", source(SIZE, seed=3))
        await self.is_sent(transfers, remote, source, store, replace(before, etag=other.etag))

    @staticmethod
    async def is_sent(transfers, remote, source, store, reuse):
        path = source(SIZE)
        uploaded = await send(transfers, remote, "run/2/model", path, reuse)
        assert uploaded.copied == 0
        assert (store / "run/2/model").read_bytes() == path.read_bytes()
        small = source(PART, name="small")
        whole = Checksums(PART, PART, (crc64nvme(small.read_bytes()),), crc64nvme(small.read_bytes()))
        uploaded = await send(transfers, remote, "run/2/small", small, replace(reuse, checksums=whole))
        assert uploaded.copied == 0
        assert (store / "run/2/small").read_bytes() == small.read_bytes()
        assert transfers.health("ckpt").ok


class Plain:
    """A third party's backend from before there were copies: it has the methods it always had."""

    def __init__(self, inner: PosixBackend) -> None:
        self.capabilities = replace(inner.capabilities, copies=False)
        self.put, self.begin, self.put_part, self.finish = inner.put, inner.begin, inner.put_part, inner.finish


async def test_a_backend_that_cannot_copy_is_never_asked_to(store, remote, source, before):
    backend, path = Plain(PosixBackend.from_url(f"file://{store}", {})), source(SIZE)
    task = Task(Pacer(0), lambda count: None)
    upload = backend.begin("run/2/model", SIZE)
    (part, *_) = parts_of(SIZE, PART)
    call = calls.PutPart(
        remote, "run/2/model", upload, 1, 0, PART, str(path), stamp_of(path), before.part(part, PART)
    )  # fmt: skip
    stored = sending.put_part(backend, call, task)  # type: ignore[arg-type]
    assert (stored.copied, stored.trouble, task.take_unreported()) == (False, None, PART)
    whole = calls.Held(before.key, before.etag, before.checksums.whole)
    put = calls.PutWhole(remote, "run/2/whole", str(path), stamp_of(path), whole)
    assert not sending.put_whole(backend, put, task).copied  # type: ignore[arg-type]


@pytest.mark.s3
class TestOnS3:
    PART = 5 * PART
    SIZE = 3 * PART

    @pytest.fixture
    def remote(self, s3_proxied):
        options = s3_proxied.options | {"read_timeout": "5"}
        return Remote("s3", s3_proxied.url, tuple(options.items()))

    @pytest.fixture
    def proxy(self, s3_proxied):
        return s3_proxied.proxy

    @pytest.fixture
    async def transfers(self, remote, make):
        """After the remote: movers get their credentials when they are started."""
        async with make() as running:
            yield running

    @pytest.fixture
    async def before(self, transfers, remote, source):
        uploaded = await send(transfers, remote, "run/1/model", source(self.SIZE))
        return Reusable("run/1/model", uploaded.etag, uploaded.checksums)

    async def fetched(self, transfers, remote, key, uploaded, path, tmp_path):
        staged = tmp_path / f"staged-{os.urandom(4).hex()}"
        await transfers.download(remote, key, str(staged), checksums=uploaded.checksums, journal_key="d")
        assert staged.read_bytes() == path.read_bytes()

    async def test_the_server_gets_only_what_changed(self, transfers, remote, proxy, source, before, tmp_path):
        path = source(self.SIZE)
        path.write_bytes(changed(path.read_bytes(), 1, part=self.PART))
        received = proxy.body_bytes
        uploaded = await send(transfers, remote, "run/2/model", path, before)
        assert self.PART <= proxy.body_bytes - received < self.PART + 10_000
        assert uploaded.copied == 2 * self.PART
        await self.fetched(transfers, remote, "run/2/model", uploaded, path, tmp_path)

    @pytest.mark.parametrize(
        ("status", "code", "asked"), [(501, "NotImplemented", 0), (400, "InvalidRequest", 1), (403, "AccessDenied", 1)]
    )
    async def test_a_refused_copy_is_sent_and_the_remote_stays_well(
        self, transfers, remote, proxy, source, before, tmp_path, status, code, asked
    ):
        """`asked`: of a store that has no such call the next file is not asked for again."""
        path = source(self.SIZE)
        for number in (1, 2, 3):
            proxy.inject(Fault("PUT", f"partNumber={number}", answer=status, code=code))
        uploaded = await send(transfers, remote, "run/2/model", path, before)
        assert proxy.unused == 0
        assert uploaded.copied == 0
        assert transfers.health("s3").ok
        await self.fetched(transfers, remote, "run/2/model", uploaded, path, tmp_path)
        third = await send(transfers, remote, "run/3/model", path, before)
        assert third.copied == asked * self.SIZE

    async def test_a_store_that_only_said_that_it_copied_gets_the_bytes(
        self, transfers, remote, proxy, source, before, tmp_path, journal
    ):
        path = source(self.SIZE)
        data = path.read_bytes()[: self.PART]
        said = (
            f"<CopyPartResult><ETag>{hashlib.md5(data).hexdigest()}</ETag>"
            f"<ChecksumCRC64NVME>{encode(crc64nvme(data), 8)}</ChecksumCRC64NVME></CopyPartResult>"
        )
        xml = (("content-type", "application/xml"),)
        proxy.inject(Fault("PUT", "partNumber=1", answer=200, body=said, headers=xml))
        uploaded = await send(transfers, remote, "run/2/model", path, before)
        assert proxy.unused == 0
        assert uploaded.copied == 0
        await self.fetched(transfers, remote, "run/2/model", uploaded, path, tmp_path)
        assert journal.known == {}

    async def test_an_object_that_the_store_would_not_make_of_copies_is_sent_whole(
        self, transfers, remote, proxy, source, before, tmp_path, journal
    ):
        path, progress = source(self.SIZE), []
        proxy.inject(Fault("POST", "uploadId", answer=400, code="BadDigest"), times=3)
        uploaded = await send(transfers, remote, "run/2/model", path, before, progress.append)
        assert proxy.unused == 0
        assert uploaded.copied == 0
        assert sum(progress) == self.SIZE
        await self.fetched(transfers, remote, "run/2/model", uploaded, path, tmp_path)
        assert journal.known == {}

    async def test_a_copied_part_is_a_finished_part_for_the_next_process(
        self, make, remote, proxy, source, before, tmp_path, journal
    ):
        path = source(self.SIZE)
        proxy.inject(Fault("POST", "uploadId", answer=500), times=100)
        async with make() as transfers:
            with pytest.raises(Exception, match="500"):
                await send(transfers, remote, "run/2/model", path, before)
        proxy.heal()
        await until(lambda: len(journal.known["run/2/model"].parts) == 3)
        seen = len(proxy.seen)
        async with make() as transfers:
            uploaded = await send(transfers, remote, "run/2/model", path, before)
            assert not [request for request in proxy.seen[seen:] if "partNumber" in request[1]]
            await self.fetched(transfers, remote, "run/2/model", uploaded, path, tmp_path)


class TestRules:
    @given(
        old=st.integers(0, 8 * LEAST), new=st.integers(1, 8 * LEAST), part=st.integers(LEAST, 3 * LEAST),
        other=st.integers(LEAST, 3 * LEAST), same=st.booleans(),
    )  # fmt: skip
    def test_only_the_same_stretch_of_the_same_length_is_offered(self, old, new, part, other, same):
        sums = Checksums(old, part, tuple(range(-(-old // part))), 99)
        reusable, asked = Reusable("k", "e", sums), part if same else other
        for each in parts_of(new, asked):
            held = reusable.part(each, asked)
            alike = asked == part and each.length == min(part, old - each.offset) and each.length >= LEAST
            assert (held is not None) == alike
            if held is not None:
                assert held.crc64nvme == each.offset // part
        assert (reusable.whole(new) is not None) == (new == old and new >= LEAST)

    def test_a_store_without_copies_is_never_asked_again(self):
        book = CopyBook(lambda: 0.0)
        book.failed("a", "not-supported")
        assert not book.allows("a")
        assert book.allows("b")

    def test_a_row_of_failures_makes_a_pause_that_ends(self):
        now = [100.0]
        book = CopyBook(lambda: now[0])
        for _ in range(ROW - 1):
            book.failed("a", "unavailable")
        book.worked("a")
        for _ in range(ROW):
            assert book.allows("a")
            book.failed("a", "unavailable")
        assert not book.allows("a")
        now[0] += PAUSE_S
        assert book.allows("a")

    def test_origins_that_go_say_nothing_about_the_store(self):
        book = CopyBook(lambda: 0.0)
        for _ in range(2 * ROW):
            book.failed("a", "not-found")
            book.failed("a", "object-changed")
        assert book.allows("a")

    @pytest.mark.parametrize(
        ("copied", "code", "goes_on"),
        [(0, "upload-gone", True), (LEAST, "upload-gone", False), (0, "checksum", False), (LEAST, "checksum", False)],
    )
    def test_an_upload_that_comes_to_nothing_is_sent_if_copies_may_be_why(self, copied, code, goes_on):
        offer = Offer(Reusable("k", "e", Checksums(LEAST, LEAST, (1,), 1)), "a", CopyBook(lambda: 0.0))
        offer.resumed()
        if copied:
            offer.took(copied)
        assert offer.used
        offer.unjoined(code)
        assert (offer.whole(LEAST) is not None) == goes_on
        assert (offer.copied, offer.used) == (0, False)

    def test_one_upload_counts_once_however_many_of_its_parts_fail(self):
        book = CopyBook(lambda: 0.0)
        offer = Offer(Reusable("k", "e", Checksums(LEAST, LEAST, (1,), 1)), "a", book)
        assert offer.whole(LEAST)
        for _ in range(2 * ROW):
            offer.refused(Refusal("unavailable", "so it is"))
        assert offer.whole(LEAST) is None
        assert book.allows("a")
