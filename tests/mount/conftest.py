"""Fixtures of a real mount."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_mount_served import Served, Tmpfs


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
