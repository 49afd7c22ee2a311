"""The contract with OSS's first signature, which old private clouds speak: where names and parameters are signed otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from servers.oss_server import OssRemote
from sources import keys, put, read

from backends.base import Backend
from backends.contract import TestConditions, TestCopies, TestDeleting, TestParts, TestReading
from backends.oss import OssBackend

__all__ = ["TestConditions", "TestCopies", "TestDeleting", "TestParts", "TestReading"]

pytestmark = pytest.mark.oss


@pytest.fixture
def open_store(oss_remote: OssRemote) -> Iterator[Callable[[], Backend]]:
    opened: list[Backend] = []

    def opener() -> Backend:
        opened.append(OssBackend.from_url(oss_remote.url, oss_remote.options | {"signature": "v1"}))
        return opened[-1]

    yield opener
    opener().delete(keys(opened[-1]))
    for backend in opened:
        backend.close()


@pytest.mark.parametrize(
    "name", ["with space", "日本語", "percent%0A", "plus+and&", "a=b?c#d", "quote'\"", "<xml>", "🚀"]
)
def test_odd_names_survive(store: Backend, name: str) -> None:
    put(store, name, b"1")
    assert read(store, name, 1) == b"1"
    assert keys(store, name) == [name]
    assert keys(store, start_after=name) == []
