"""The store that fails on command: it has the whole interface, and it fails where it is told to."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme
from faulty_store import FaultyStore
from sources import Memory, keys, put, put_part, read

from backends.base import Backend, Copying, Origin
from backends.errors import Unavailable
from backends.posix import PosixBackend
from backends.s3 import S3Backend


def interface(kind: type) -> dict[str, list[str]]:
    """Public methods and their parameters' names."""
    return {
        name: list(inspect.signature(getattr(kind, name)).parameters)
        for name in [*vars(Backend), *vars(Copying)]
        if not name.startswith("_") and callable(getattr(kind, name, None))
    }


@pytest.fixture
def store(tmp_path: Path) -> FaultyStore:
    made = FaultyStore.from_url(f"file://{tmp_path}/remote", {})
    made.probe()
    made.calls.clear()
    return made


@pytest.mark.parametrize("kind", [FaultyStore, PosixBackend, S3Backend])
def test_every_backend_has_the_whole_interface_as_written(kind: type) -> None:
    whole = interface(Backend) | interface(Copying)
    assert len(whole) == 16
    assert interface(kind) == whole
    assert set(whole) <= set(vars(kind)), "inherited is not wrapped"


def test_every_method_can_be_made_to_fail(store: FaultyStore) -> None:
    upload = store.begin("a", 1)
    calls = {
        "probe": store.probe,
        "put": lambda: put(store, "a", b"x"),
        "begin": lambda: store.begin("a", 1),
        "put_part": lambda: put_part(store, "a", upload, 1, 0, b"x"),
        "copy": lambda: store.copy("a", Origin("b", "1"), Memory(b"x"), 0),
        "copy_part": lambda: store.copy_part("a", upload, 1, 0, Origin("b", "1"), Memory(b"x"), 0),
        "finish": lambda: store.finish("a", upload, [], 0),
        "abort": lambda: store.abort("a", upload),
        "pending": lambda: store.pending(""),
        "head": lambda: store.head("a"),
        "read": lambda: read(store, "a", 1),
        "stream": lambda: store.stream("a", 0, 1, memoryview(bytearray(1)), lambda block: None),
        "list": lambda: keys(store),
        "delete": lambda: store.delete(["a"]),
        "close": store.close,
    }
    assert set(calls) == set(interface(Backend) | interface(Copying)) - {"from_url"}
    for name, call in calls.items():
        store.fail(name, Unavailable(name))
        with pytest.raises(Unavailable, match=name):
            call()
    assert keys(store) == []


def test_an_answer_can_be_lost_after_the_work_was_done(store: FaultyStore) -> None:
    store.fail("put", Unavailable("lost"), done=True)
    with pytest.raises(Unavailable):
        put(store, "a", b"x")
    assert keys(store) == ["a"]
    put(store, "a", b"y")
    assert read(store, "a", 1) == b"y"


def test_a_body_can_break_off_in_either_direction(store: FaultyStore) -> None:
    store.fail("put", Unavailable("broke off"), after_bytes=3)
    with pytest.raises(Unavailable):
        put(store, "a", b"12345")
    assert keys(store) == []
    put(store, "a", b"12345")
    store.fail("read", Unavailable("broke off"), after_bytes=3)
    target = bytearray(5)
    with pytest.raises(Unavailable):
        store.read("a", 0, memoryview(target))
    assert bytes(target) == b"123\0\0"


def test_a_bit_can_flip_in_what_is_read(store: FaultyStore) -> None:
    put(store, "a", b"12345")
    store.corrupt("read")
    assert crc64nvme(read(store, "a", 5)) != crc64nvme(b"12345")
    assert read(store, "a", 5) == b"12345"


def test_failures_can_be_aimed_at_keys_and_counted(store: FaultyStore) -> None:
    store.fail("put", Unavailable("b"), times=2, when=lambda key: key == "b")
    put(store, "a", b"x")
    for _ in range(2):
        with pytest.raises(Unavailable):
            put(store, "b", b"x")
    put(store, "b", b"x")
    assert [call for call in store.calls if call[0] == "put"] == [("put", "a"), *[("put", "b")] * 3]
