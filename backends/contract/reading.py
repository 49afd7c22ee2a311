"""Reading: any range, of the version that is meant, with a caller who may stop it."""

from __future__ import annotations

import pytest
from awscrt.checksums import crc64nvme

from backends.base import Backend
from backends.contract.sources import FIRST, MIB, WHOLE, Memory, put, read
from backends.errors import NotFound, ObjectChanged


class _CallersOwn(Exception):
    """Something only the caller knows."""


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
