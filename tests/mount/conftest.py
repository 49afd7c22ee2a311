"""Fixtures of a real mount."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_mount_served import Served, Tmpfs


@pytest.fixture
def home() -> Iterator[Path]:
    """Not `tmp_path`, into which nobody but root may go: every call of another user would fail there, whatever the mount does."""
    at = Path(tempfile.mkdtemp(prefix="ckptd-test-mount-"))
    at.chmod(0o755)
    yield at
    shutil.rmtree(at)


@pytest.fixture
def served(home: Path) -> Iterator[Served]:
    with Served(home) as mount:
        yield mount


@pytest.fixture(params=["passthrough", "mediated"])
def either(request: pytest.FixtureRequest, home: Path) -> Iterator[Served]:
    """Both ways for the bytes."""
    with Served(home, *(["--no-passthrough"] if request.param == "mediated" else [])) as mount:
        yield mount


@pytest.fixture
def plain(home: Path) -> Iterator[Path]:
    """A tmpfs without a mount before it: what is compared with."""
    tmpfs = Tmpfs(home / "plain")
    try:
        yield tmpfs.at
    finally:
        tmpfs.close()
