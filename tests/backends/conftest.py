"""The stores the contract is tested against: each a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from backends.base import Backend
from backends.posix import PosixBackend
from backends.s3 import S3Backend


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3)])
def open_store(request: pytest.FixtureRequest) -> Iterator[Callable[[], Backend]]:
    """Opens the same fresh, empty remote; each call gives an instance of its own, as another process would have."""
    opened: list[Backend] = []
    if request.param == "s3":
        remote = request.getfixturevalue("s3_remote")
        kind, url, options = S3Backend, remote.url, remote.options
    else:
        kind, url, options = PosixBackend, f"file://{request.getfixturevalue('tmp_path')}/remote", {}

    def opener() -> Backend:
        opened.append(kind.from_url(url, options))
        return opened[-1]

    if request.param == "file":
        opener().probe()
    yield opener
    for backend in opened:
        backend.delete([found.key for found in backend.list("")])
        backend.close()


@pytest.fixture
def store(open_store: Callable[[], Backend]) -> Backend:
    return open_store()
