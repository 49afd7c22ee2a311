"""The stores the contract is tested against: each a real one, but OSS, of which no server can be had (`servers.oss_gateway`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
from documented_example import MemoryBackend

from backends.base import Backend
from backends.hdfs import HdfsBackend
from backends.oss import OssBackend
from backends.posix import PosixBackend
from backends.s3 import S3Backend

Opened = tuple[type[Backend], str, Mapping[str, str]]


def _file(request: pytest.FixtureRequest) -> Opened:
    """Its directory is there before the tests, as a bucket is."""
    url = f"file://{request.getfixturevalue('tmp_path')}/remote"
    PosixBackend.from_url(url, {}).probe()
    return PosixBackend, url, {}


def _hdfs(request: pytest.FixtureRequest) -> Opened:
    """By whichever way is there: Hadoop's own protocol where hdfs-native is installed."""
    remote = request.getfixturevalue("hdfs_remote")
    return HdfsBackend, remote.url, remote.options


def _webhdfs(request: pytest.FixtureRequest) -> Opened:
    remote = request.getfixturevalue("hdfs_remote")
    return HdfsBackend, remote.url, {**remote.options, "data": "webhdfs"}


def _memory(request: pytest.FixtureRequest) -> Opened:
    return MemoryBackend, f"memory://{request.node.nodeid}", {}


def _oss(request: pytest.FixtureRequest) -> Opened:
    remote = request.getfixturevalue("oss_remote")
    return OssBackend, remote.url, remote.options


def _s3(request: pytest.FixtureRequest) -> Opened:
    remote = request.getfixturevalue("s3_remote")
    return S3Backend, remote.url, remote.options


STORES: dict[str, Callable[[pytest.FixtureRequest], Opened]] = {
    "file": _file,
    "hdfs": _hdfs,
    "memory": _memory,
    "oss": _oss,
    "s3": _s3,
    "webhdfs": _webhdfs,
}
"""Name to what opens a fresh, empty remote."""
_MARKED = {"hdfs": "hdfs", "oss": "oss", "s3": "s3", "webhdfs": "hdfs"}
"""Those that need a server, and the marker of its suite."""


@pytest.fixture(
    params=[pytest.param(name, marks=getattr(pytest.mark, _MARKED[name]) if name in _MARKED else ()) for name in STORES]
)
def open_store(request: pytest.FixtureRequest) -> Iterator[Callable[[], Backend]]:
    """Opens the same fresh, empty remote; each call gives an instance of its own, as another process would have."""
    opened: list[Backend] = []
    kind, url, options = STORES[request.param](request)

    def opener() -> Backend:
        opened.append(kind.from_url(url, options))
        return opened[-1]

    yield opener
    for backend in opened:
        backend.delete([found.key for found in backend.list("")])
        backend.close()


@pytest.fixture
def store(open_store: Callable[[], Backend]) -> Backend:
    return open_store()


_NOT_OVER_HTTP = "test_more_than_a_page_is_listed_in_order_and_deleted[webhdfs]"
"""A thousand objects by HTTP take minutes on a small machine, and a listing does not depend on how the bytes went."""


def _asked_of(item: pytest.Item) -> bool:
    """HDFS cannot copy, which no server changes: a skip for a missing server must stay the only one of its suite."""
    copies = "TestCopies::" in item.nodeid
    return item.name != _NOT_OVER_HTTP and not (copies and item.get_closest_marker("hdfs"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if _asked_of(item)]
