"""A watched directory on each kind of file system that a tier may have here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from watched_directory import Watched


@pytest.fixture(params=["tmpfs", "disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        yield tmp_path
        return
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm to write to")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ckptd-test-") as found:
        yield Path(found)


@pytest.fixture
async def watched(place: Path) -> AsyncIterator[Watched]:
    """On an empty directory, with a directory of objects beside it."""
    root = place / "volume"
    root.mkdir()
    found = Watched(str(root), str(place / "objects"))
    await found.front.start()
    found.changes.clear()
    yield found
    await found.front.stop()
