"""Daemons whose volume is mounted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests_node_daemon import Daemon
from tests_node_fixtures import new_daemon

__all__ = ["new_daemon"]


@pytest.fixture
def new_mounted(new_daemon: Callable[..., Daemon], tmp_path: Path) -> Callable[..., Daemon]:
    """Makes daemons with `front = "mount"` and one remote for all of them."""
    return lambda **settings: new_daemon(**{"remote": f"file://{tmp_path}/remote", "front": "mount", **settings})


@pytest.fixture
def mounted(new_mounted: Callable[..., Daemon]) -> Daemon:
    """One that serves."""
    made = new_mounted()
    made.start()
    return made
