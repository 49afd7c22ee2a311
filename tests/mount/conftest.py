"""Fixtures of a real mount. Skipped, with the reason, where the machine cannot have one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_mount_served import Served, Tmpfs


def missing() -> str:
    if os.geteuid() != 0:
        return "mounting and passthrough need root"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "there is no /dev/fuse"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if reason and item.get_closest_marker("mount"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as mount:
        yield mount


@pytest.fixture(params=["passthrough", "mediated"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """Both ways for the bytes."""
    with Served(tmp_path, *(["--no-passthrough"] if request.param == "mediated" else [])) as mount:
        yield mount


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs without a mount before it: what is compared with."""
    tmpfs = Tmpfs(tmp_path / "plain")
    try:
        yield tmpfs.at
    finally:
        tmpfs.close()
