"""What a store does with whole objects: all or nothing, checked, and on conditions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from awscrt.checksums import crc64nvme

from backends.base import Backend
from backends.contract.sources import MIB, WHOLE, Memory, Stretch, keys, put, read
from backends.errors import ChecksumMismatch, PreconditionFailed


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
