"""Listing and deleting, and names that are hard to carry."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from awscrt.checksums import crc64nvme

from backends.base import Backend
from backends.contract.sources import FIRST, keys, put, put_part, read


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
