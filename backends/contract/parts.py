"""Uploads in parts: in any order, from any process, invisible until they are finished."""

from __future__ import annotations

import mmap
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme

from backends.base import Backend
from backends.contract.sources import FIRST, MIB, SECOND, TAIL, WHOLE, Memory, keys, put, put_part, read
from backends.errors import ChecksumMismatch, UploadGone


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
