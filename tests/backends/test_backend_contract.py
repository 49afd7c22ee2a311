"""What every backend promises, against every store. A backend of a third party can be run through it as well."""

from __future__ import annotations

import mmap
import os
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme
from sources import MIB, Memory, Stretch, keys, put, put_part, read

from backends.base import Backend, Copying, Origin, PartTag
from backends.errors import (
    ChecksumMismatch,
    NotFound,
    ObjectChanged,
    PreconditionFailed,
    UploadGone,
)

FIRST = os.urandom(5 * MIB)
SECOND = os.urandom(5 * MIB)
TAIL = b"the end"
WHOLE = FIRST + SECOND + TAIL


class _CallersOwn(Exception):
    """Something only the caller knows."""


def test_probe_finds_the_store_fit_and_leaves_nothing_behind(store: Backend) -> None:
    store.probe()
    assert keys(store) == []
    assert store.capabilities.conditional_put


class TestPut:
    def test_what_was_put_is_what_is_read(self, store: Backend) -> None:
        data = os.urandom(3 * MIB + 17)
        info = put(store, "run-1/model.bin", data)
        assert (info.key, info.size, info.crc64nvme) == ("run-1/model.bin", len(data), crc64nvme(data))
        assert read(store, "run-1/model.bin", len(data), etag=info.etag) == data

    def test_head_says_the_same_as_put(self, store: Backend) -> None:
        info = put(store, "a", b"content")
        head = store.head("a")
        assert head is not None
        assert (head.key, head.size, head.etag) == ("a", 7, info.etag)
        assert head.crc64nvme in {None, crc64nvme(b"content")}
        assert abs(head.modified - info.modified) < 5

    def test_an_empty_object_is_an_object(self, store: Backend) -> None:
        info = put(store, "empty", b"")
        assert info.size == 0
        assert read(store, "empty", 0, etag=info.etag) == b""
        assert keys(store) == ["empty"]

    def test_a_second_put_replaces_and_changes_the_etag(self, store: Backend) -> None:
        old = put(store, "a", b"old")
        new = put(store, "a", b"new")
        assert old.etag != new.etag
        assert read(store, "a", 3) == b"new"

    def test_a_wrong_checksum_is_refused_and_nothing_is_visible(self, store: Backend) -> None:
        with pytest.raises(ChecksumMismatch):
            store.put("a", Memory(b"bytes"), crc64nvme(b"other"))
        assert store.head("a") is None

    def test_a_wrong_checksum_leaves_the_old_content(self, store: Backend) -> None:
        put(store, "a", b"good")
        with pytest.raises(ChecksumMismatch):
            store.put("a", Memory(b"bytes"), crc64nvme(b"other"))
        assert read(store, "a", 4) == b"good"

    def test_a_stretch_of_a_file_is_sent_from_its_offset(self, store: Backend, tmp_path: object) -> None:
        path = f"{tmp_path}/source"
        with open(path, "wb") as file:
            file.write(WHOLE)
        source = Stretch(path, 1000, 9 * MIB)
        try:
            store.put("a", source, crc64nvme(WHOLE[1000 : 1000 + 9 * MIB]))
        finally:
            source.close()
        assert read(store, "a", 9 * MIB) == WHOLE[1000 : 1000 + 9 * MIB]

    def test_a_reader_sees_the_old_content_or_the_new_never_a_mixture(self, store: Backend) -> None:
        contents = [bytes([n]) * (2 * MIB) for n in range(2)]
        put(store, "a", contents[0])
        done = threading.Event()

        def rewrite() -> None:
            for n in range(1, 12):
                put(store, "a", contents[n % 2])
            done.set()

        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(rewrite)
            seen = 0
            while not done.is_set():
                assert read(store, "a", 2 * MIB) in contents
                seen += 1
            writer.result()
        assert seen


class TestConditions:
    def test_if_absent_stores_the_first(self, store: Backend) -> None:
        put(store, "a", b"first", if_absent=True)
        with pytest.raises(PreconditionFailed):
            put(store, "a", b"second", if_absent=True)
        assert read(store, "a", 5) == b"first"

    def test_if_absent_has_one_winner_among_many(self, open_store: Callable[[], Backend]) -> None:
        stores = [open_store() for _ in range(4)]

        def attempt(number: int) -> bool:
            try:
                put(stores[number % 4], "a", b"%d" % number, if_absent=True)
            except PreconditionFailed:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(attempt, range(8)))
        assert won.count(True) == 1
        assert read(stores[0], "a", 1) == b"%d" % won.index(True)

    def test_if_match_replaces_the_version_that_was_seen(self, store: Backend) -> None:
        seen = put(store, "a", b"1")
        put(store, "a", b"2", if_match=seen.etag)
        with pytest.raises(PreconditionFailed):
            put(store, "a", b"3", if_match=seen.etag)
        assert read(store, "a", 1) == b"2"

    def test_if_match_of_an_absent_object_fails(self, store: Backend) -> None:
        seen = put(store, "a", b"1")
        store.delete(["a"])
        with pytest.raises(PreconditionFailed):
            put(store, "a", b"2", if_match=seen.etag)


class TestParts:
    def test_parts_come_in_any_order_from_any_instance(self, open_store: Callable[[], Backend]) -> None:
        one, other, third = open_store(), open_store(), open_store()
        upload = one.begin("run/big", len(WHOLE))
        tail = put_part(other, "run/big", upload, 3, 10 * MIB, TAIL)
        first = put_part(one, "run/big", upload, 1, 0, FIRST)
        second = put_part(other, "run/big", upload, 2, 5 * MIB, SECOND)
        info = third.finish("run/big", upload, [tail, first, second], crc64nvme(WHOLE))
        assert (info.size, info.crc64nvme) == (len(WHOLE), crc64nvme(WHOLE))
        head = one.head("run/big")
        assert head is not None
        assert head.etag == info.etag
        assert read(one, "run/big", len(WHOLE), etag=info.etag) == WHOLE

    def test_nothing_is_visible_before_finish(self, store: Backend) -> None:
        put(store, "a", b"old")
        upload = store.begin("a", len(FIRST))
        part = put_part(store, "a", upload, 1, 0, FIRST)
        assert read(store, "a", 3) == b"old"
        assert keys(store) == ["a"]
        store.finish("a", upload, [part], crc64nvme(FIRST))
        assert read(store, "a", 3) == FIRST[:3]

    def test_a_part_may_be_sent_again(self, store: Backend) -> None:
        upload = store.begin("a", len(FIRST) + len(TAIL))
        put_part(store, "a", upload, 1, 0, SECOND)
        parts = [put_part(store, "a", upload, 2, 5 * MIB, TAIL), put_part(store, "a", upload, 1, 0, FIRST)]
        store.finish("a", upload, parts, crc64nvme(FIRST + TAIL))
        assert read(store, "a", 5 * MIB) == FIRST

    def test_a_part_with_a_wrong_checksum_is_refused(self, store: Backend) -> None:
        upload = store.begin("a", len(FIRST))
        with pytest.raises(ChecksumMismatch):
            store.put_part("a", upload, 1, 0, Memory(FIRST), crc64nvme(SECOND))
        store.abort("a", upload)

    def test_a_wrong_whole_checksum_is_refused_and_nothing_is_visible(self, store: Backend) -> None:
        upload = store.begin("a", len(FIRST))
        part = put_part(store, "a", upload, 1, 0, FIRST)
        with pytest.raises(ChecksumMismatch):
            store.finish("a", upload, [part], crc64nvme(SECOND))
        assert store.head("a") is None
        store.abort("a", upload)

    def test_finish_whose_answer_was_lost_may_be_repeated(self, open_store: Callable[[], Backend]) -> None:
        store = open_store()
        upload = store.begin("a", len(FIRST))
        part = put_part(store, "a", upload, 1, 0, FIRST)
        first = store.finish("a", upload, [part], crc64nvme(FIRST))
        again = open_store().finish("a", upload, [part], crc64nvme(FIRST))
        assert (again.size, again.etag) == (first.size, first.etag)

    def test_an_aborted_upload_is_gone(self, store: Backend) -> None:
        upload = store.begin("a", len(FIRST))
        part = put_part(store, "a", upload, 1, 0, FIRST)
        store.abort("a", upload)
        with pytest.raises(UploadGone):
            put_part(store, "a", upload, 1, 0, FIRST)
        with pytest.raises(UploadGone):
            store.finish("a", upload, [part], crc64nvme(FIRST))
        store.abort("a", upload)  # and aborting again is no error

    def test_an_upload_gone_under_another_object_is_gone(self, store: Backend) -> None:
        put(store, "a", b"something else")
        upload = store.begin("a", len(FIRST))
        part = put_part(store, "a", upload, 1, 0, FIRST)
        store.abort("a", upload)
        with pytest.raises(UploadGone):
            store.finish("a", upload, [part], crc64nvme(FIRST))
        assert read(store, "a", 14) == b"something else"

    def test_pending_lists_what_was_begun_and_not_finished(self, open_store: Callable[[], Backend]) -> None:
        store = open_store()
        dead = store.begin("run-1/dead ä%0A", len(FIRST))
        put_part(store, "run-1/dead ä%0A", dead, 1, 0, FIRST)
        done = store.begin("run-1/done", len(FIRST))
        store.finish("run-1/done", done, [put_part(store, "run-1/done", done, 1, 0, FIRST)], crc64nvme(FIRST))
        store.begin("run-2/other", 1)
        found = list(open_store().pending("run-1/"))
        assert [upload.key for upload in found] == ["run-1/dead ä%0A"]
        assert found[0].started > 1e9
        for upload in store.pending(""):
            store.abort(upload.key, upload.upload_id)
        assert list(store.pending("")) == []
        with pytest.raises(UploadGone):
            put_part(store, "run-1/dead ä%0A", dead, 1, 0, FIRST)


class CopyingStore(Backend, Copying):
    """What a store is for which `capabilities.copies` holds."""


class _Unread(Memory):
    """Whose bytes stay where they are."""

    def read(self, size: int = -1, /) -> bytes | memoryview:
        raise AssertionError("the bytes of a copy are not sent")


class TestCopies:
    """For backends that copy inside the store; the others are never asked."""

    @pytest.fixture
    def copier(self, store: Backend) -> CopyingStore:
        if not store.capabilities.copies:
            pytest.skip("this backend does not copy")
        return store  # type: ignore[return-value]

    @pytest.fixture
    def origin(self, copier: CopyingStore) -> Origin:
        """In parts, under a name that a header can only carry escaped."""
        key = "run/ö 1%0A+&?/model.bin"
        upload = copier.begin(key, len(WHOLE))
        parts = [
            put_part(copier, key, upload, number, (number - 1) * 5 * MIB, data)
            for number, data in enumerate((FIRST, SECOND, TAIL), start=1)
        ]
        return Origin(key, copier.finish(key, upload, parts, crc64nvme(WHOLE)).etag)

    @staticmethod
    def copy_part(
        store: CopyingStore, upload: str, number: int, origin: Origin, data: bytes, crc: int | None = None
    ) -> PartTag:
        meant = crc64nvme(data) if crc is None else crc
        return store.copy_part("run/new", upload, number, (number - 1) * 5 * MIB, origin, _Unread(data), meant)

    def test_parts_that_did_not_change_are_copied_between_parts_that_are_sent(
        self, copier: CopyingStore, origin: Origin
    ) -> None:
        changed = os.urandom(5 * MIB)
        new = FIRST + changed + TAIL
        upload = copier.begin("run/new", len(new))
        parts = [
            self.copy_part(copier, upload, 1, origin, FIRST),
            put_part(copier, "run/new", upload, 2, 5 * MIB, changed),
            self.copy_part(copier, upload, 3, origin, TAIL),
        ]
        assert [(part.size, part.crc64nvme) for part in parts] == [
            (len(data), crc64nvme(data)) for data in (FIRST, changed, TAIL)
        ]
        info = copier.finish("run/new", upload, parts, crc64nvme(new))
        assert (info.size, info.crc64nvme) == (len(new), crc64nvme(new))
        assert read(copier, "run/new", len(new), etag=info.etag) == new
        assert read(copier, origin.key, len(WHOLE), etag=origin.etag) == WHOLE

    def test_a_part_may_be_sent_after_it_was_copied(self, copier: CopyingStore, origin: Origin) -> None:
        changed = os.urandom(5 * MIB)
        upload = copier.begin("run/new", len(changed))
        self.copy_part(copier, upload, 1, origin, FIRST)
        parts = [put_part(copier, "run/new", upload, 1, 0, changed)]
        copier.finish("run/new", upload, parts, crc64nvme(changed))
        assert read(copier, "run/new", 5 * MIB) == changed

    def test_a_whole_object_is_copied(self, copier: CopyingStore) -> None:
        old = put(copier, "run/ö 1%0A+&?/small", FIRST)
        info = copier.copy("run/new", Origin(old.key, old.etag), _Unread(FIRST), crc64nvme(FIRST))
        assert (info.key, info.size, info.crc64nvme) == ("run/new", len(FIRST), crc64nvme(FIRST))
        head = copier.head("run/new")
        assert head is not None
        assert (head.size, head.etag) == (info.size, info.etag)
        assert abs(head.modified - info.modified) < 5
        copier.delete([old.key])
        assert read(copier, "run/new", len(FIRST), etag=info.etag) == FIRST

    def test_an_origin_that_was_replaced_is_refused(self, copier: CopyingStore, origin: Origin) -> None:
        put(copier, origin.key, WHOLE[::-1])
        upload = copier.begin("run/new", len(FIRST))
        with pytest.raises(ObjectChanged):
            self.copy_part(copier, upload, 1, origin, FIRST)
        with pytest.raises(ObjectChanged):
            copier.copy("run/new", origin, Memory(WHOLE), crc64nvme(WHOLE))
        assert copier.head("run/new") is None
        parts = [put_part(copier, "run/new", upload, 1, 0, FIRST)]  # and the upload goes on
        copier.finish("run/new", upload, parts, crc64nvme(FIRST))

    @pytest.mark.parametrize("key", ["run/gone", "run/new/below", "run/ö 1%0A+&?"])
    def test_an_origin_that_is_gone_is_named(self, copier: CopyingStore, origin: Origin, key: str) -> None:
        upload = copier.begin("run/new", len(FIRST))
        with pytest.raises(NotFound, match="run/"):
            self.copy_part(copier, upload, 1, Origin(key, origin.etag), FIRST)
        with pytest.raises(NotFound, match="run/"):
            copier.copy("run/new", Origin(key, origin.etag), Memory(FIRST), crc64nvme(FIRST))
        copier.abort("run/new", upload)

    def test_a_range_beyond_the_end_of_the_origin_is_refused(self, copier: CopyingStore, origin: Origin) -> None:
        upload = copier.begin("run/new", 20 * MIB)
        for number in (3, 4):  # half of it, and nothing of it
            with pytest.raises(ObjectChanged):
                self.copy_part(copier, upload, number, origin, FIRST)
        copier.abort("run/new", upload)

    def test_bytes_that_are_not_the_ones_meant_are_found(self, copier: CopyingStore, origin: Origin) -> None:
        """As when what is known of the origin is wrong: its version is right, its bytes are not."""
        other = Memory(SECOND)
        upload = copier.begin("run/new", len(FIRST))
        with pytest.raises(ChecksumMismatch):
            copier.copy_part("run/new", upload, 1, 0, origin, other, crc64nvme(SECOND))
        copier.abort("run/new", upload)
        old = put(copier, "run/old", FIRST)
        with pytest.raises(ChecksumMismatch):
            copier.copy("run/new", Origin("run/old", old.etag), other, crc64nvme(SECOND))

    def test_an_origin_that_is_longer_is_no_copy_of_a_whole(self, copier: CopyingStore, origin: Origin) -> None:
        """`file://` takes what was asked for; a store that copies whole objects only has to notice."""
        try:
            info = copier.copy("run/new", origin, Memory(FIRST), crc64nvme(FIRST))
        except (ChecksumMismatch, ObjectChanged):
            return
        assert read(copier, "run/new", info.size) == FIRST

    def test_an_upload_that_is_gone_is_gone_for_copies_too(self, copier: CopyingStore, origin: Origin) -> None:
        upload = copier.begin("run/new", len(FIRST))
        copier.abort("run/new", upload)
        with pytest.raises(UploadGone):
            self.copy_part(copier, upload, 1, origin, FIRST)


def test_no_part_is_copied_onto_the_python_heap(store: Backend, tmp_path: Path) -> None:
    size = 48 * MIB
    path = tmp_path / "source"
    path.write_bytes(os.urandom(MIB) * (size // MIB))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        crc = crc64nvme(mapped)
        with mmap.mmap(-1, size) as target, memoryview(mapped) as sent, memoryview(target) as got:
            put(store, "warm", b"up")
            source = Memory(sent)
            tracemalloc.start()
            try:
                upload = store.begin("a", size)
                part = store.put_part("a", upload, 1, 0, source, crc)
                store.finish("a", upload, [part], crc)
                store.put("b", source, crc)
                store.read("a", 0, got)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert crc64nvme(target) == crc
            source.close()
    assert peak < 4 * MIB


class TestReading:
    def test_any_range_can_be_read(self, store: Backend) -> None:
        put(store, "a", WHOLE)
        for offset, size in [(0, 1), (1, 3 * MIB), (5 * MIB - 1, 2), (len(WHOLE) - 7, 7), (len(WHOLE), 0)]:
            assert read(store, "a", size, offset) == WHOLE[offset : offset + size]

    def test_on_bytes_hears_of_every_byte_as_it_comes(self, store: Backend) -> None:
        put(store, "a", FIRST)
        counts: list[int] = []
        read(store, "a", len(FIRST), on_bytes=counts.append)
        assert sum(counts) == len(FIRST)
        assert max(counts) <= MIB

    def test_what_on_bytes_raises_comes_out_and_the_store_stays_usable(self, store: Backend) -> None:
        put(store, "a", FIRST)

        def stop(_: int) -> None:
            raise _CallersOwn

        for _ in range(3):
            with pytest.raises(_CallersOwn):
                read(store, "a", len(FIRST), on_bytes=stop)
        assert read(store, "a", len(FIRST)) == FIRST

    @pytest.mark.parametrize("width", [1000, MIB, 64 * MIB])
    def test_a_stream_passes_the_same_bytes_in_order_through_its_window(self, store: Backend, width: int) -> None:
        put(store, "a", FIRST)
        window = memoryview(bytearray(width))
        for offset, size in [(0, 1), (1, 3 * MIB // 1000), (len(FIRST) - 70_000, 70_000), (len(FIRST), 0)]:
            came = bytearray()
            store.stream("a", offset, size, window, came.extend)
            assert came == FIRST[offset : offset + size]

    def test_what_a_stream_s_listener_raises_comes_out_and_the_store_stays_usable(self, store: Backend) -> None:
        put(store, "a", FIRST)

        def stop(_: memoryview) -> None:
            raise _CallersOwn

        for _ in range(3):
            with pytest.raises(_CallersOwn):
                store.stream("a", 0, len(FIRST), memoryview(bytearray(1000)), stop)
        with pytest.raises(NotFound):
            store.stream("missing", 0, 1, memoryview(bytearray(1000)), stop)
        assert read(store, "a", len(FIRST)) == FIRST

    @pytest.mark.parametrize("kind", [_CallersOwn, TimeoutError])
    def test_what_a_source_raises_comes_out_and_nothing_is_stored(self, store: Backend, kind: type[Exception]) -> None:
        class Stopping(Memory):
            def read(self, size: int = -1, /) -> bytes | memoryview:
                if self.tell() >= MIB:
                    raise kind("enough")
                return super().read(min(size, MIB))

        with pytest.raises(kind, match="enough"):
            store.put("a", Stopping(FIRST), crc64nvme(FIRST))
        assert store.head("a") is None
        put(store, "a", FIRST)
        assert read(store, "a", len(FIRST)) == FIRST

    def test_another_version_than_asked_for_is_not_given(self, store: Backend) -> None:
        old = put(store, "a", b"old")
        put(store, "a", b"new")
        for size in (3, 0):
            with pytest.raises(ObjectChanged):
                read(store, "a", size, etag=old.etag)

    def test_more_than_there_is_cannot_be_read(self, store: Backend) -> None:
        put(store, "a", b"12345")
        for offset, size in [(0, 6), (3, 3), (5, 1), (9, 4)]:
            with pytest.raises(ObjectChanged):
                read(store, "a", size, offset)

    def test_an_absent_object_is_not_found(self, store: Backend) -> None:
        put(store, "dir/a", b"1")
        for key in ("absent", "dir/absent", "absent/a", "dir"):
            assert store.head(key) is None
            for size in (1, 0):
                with pytest.raises(NotFound):
                    read(store, key, size)


class TestListing:
    def test_a_prefix_is_text_not_a_folder(self, store: Backend) -> None:
        for key in ("run-1/a", "run-1/b/c", "run-10/a", "other"):
            put(store, key, b"x")
        assert keys(store, "run-1") == ["run-1/a", "run-1/b/c", "run-10/a"]
        assert keys(store, "run-1/") == ["run-1/a", "run-1/b/c"]
        assert keys(store, "run-1/b/c") == ["run-1/b/c"]
        assert keys(store, "absent/") == []
        assert keys(store) == ["other", "run-1/a", "run-1/b/c", "run-10/a"]

    def test_sizes_and_times_are_listed(self, store: Backend) -> None:
        info = put(store, "a", b"12345")
        (found,) = store.list("")
        assert (found.key, found.size) == ("a", 5)
        assert found.etag in {"", info.etag}
        assert abs(found.modified - info.modified) < 5

    def test_more_than_a_page_is_listed_in_order_and_deleted(self, store: Backend) -> None:
        names = [f"step-{n:05d}/part-{n % 3}" for n in range(1100)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: put(store, name, b"x"), names))
        assert keys(store, "step-") == names
        assert keys(store, start_after=names[1049]) == names[1050:]
        assert keys(store, "step-0105", start_after=names[1049]) == names[1050:1060]
        store.delete([*names, "absent"])
        assert keys(store) == []

    @pytest.mark.parametrize(
        "name",
        [
            "with space", " leading", "trailing ", "ünïcode", "日本語", "emoji-🚀", "percent%0Aescape", "plus+and&",
            "a=b?c#d", "100%", "quote'\"", "semi;colon:at@", "tilde~", "..dots", "-dash", "<xml>&amp;", "n" * 255,
            "é" * 120, "*star*[x]", "{brace}$var", ".hidden",
        ],
    )  # fmt: skip
    def test_odd_names_survive(self, store: Backend, name: str) -> None:
        key = f"run {name[:3]}/{name}"
        put(store, key, name.encode())
        assert store.head(key) is not None
        assert read(store, key, len(name.encode())) == name.encode()
        assert keys(store) == [key]
        assert keys(store, key) == [key]
        store.delete([key])
        assert store.head(key) is None

    def test_an_upload_in_parts_takes_odd_names_too(self, store: Backend) -> None:
        key = "run ü/a b%0A+🚀"
        upload = store.begin(key, len(FIRST))
        store.finish(key, upload, [put_part(store, key, upload, 1, 0, FIRST)], crc64nvme(FIRST))
        assert read(store, key, 5) == FIRST[:5]


class TestDeleting:
    def test_absent_keys_are_fine(self, store: Backend) -> None:
        put(store, "dir/a", b"1")
        store.delete(["absent", "dir/absent", "dir/a", "absent/dir/a", "dir/a/below"])
        assert keys(store) == []
        store.delete([])

    def test_only_what_was_named_is_deleted(self, store: Backend) -> None:
        for key in ("a", "a b", "ab", "d/a"):
            put(store, key, b"1")
        store.delete(["a", "d/a"])
        assert sorted(keys(store)) == ["a b", "ab"]

    def test_a_name_is_free_again(self, store: Backend) -> None:
        put(store, "d/e/a", b"1")
        store.delete(["d/e/a"])
        put(store, "d/e/a", b"2", if_absent=True)
        assert read(store, "d/e/a", 1) == b"2"
