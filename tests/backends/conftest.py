"""The stores the contract is tested against: each a real one, but OSS, of which no server can be had (`servers.oss_gateway`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
from documented_example import MemoryBackend

from backends.base import Backend
from backends.oss import OssBackend
from backends.posix import PosixBackend
from backends.s3 import S3Backend

Opened = tuple[type[Backend], str, Mapping[str, str]]


def _file(request: pytest.FixtureRequest) -> Opened:
    """Its directory is there before the tests, as a bucket is."""
    url = f"file://{request.getfixturevalue('tmp_path')}/remote"
    PosixBackend.from_url(url, {}).probe()
    return PosixBackend, url, {}


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
    "memory": _memory,
    "oss": _oss,
    "s3": _s3,
}
"""Name to what opens a fresh, empty remote."""
_MARKED = {"oss", "s3"}
"""Those that need a server; their marker has their name."""


@pytest.fixture(
    params=[pytest.param(name, marks=getattr(pytest.mark, name) if name in _MARKED else ()) for name in STORES]
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
