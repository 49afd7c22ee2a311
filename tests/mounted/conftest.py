"""Daemons whose volume is mounted. Skipped, with the reason, where the machine cannot have a mount."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_node_daemon import Daemon, clear_mounts
from tests_node_fixtures import new_daemon

from ckptd.fronts.mount import possible

__all__ = ["new_daemon"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = possible.refused_here()
    for item in items:
        if reason and item.get_closest_marker("mount"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def new_mounted(new_daemon: Callable[..., Daemon], tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons with `front = "mount"` and one remote for all of them; what a killed one leaves mounted is unmounted."""
    made: list[Daemon] = []

    def make(**settings: object) -> Daemon:
        daemon = new_daemon(**{"remote": f"file://{tmp_path}/remote", "front": "mount", **settings})
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.end()
        clear_mounts(daemon.volume, daemon.ram)


@pytest.fixture
def mounted(new_mounted: Callable[..., Daemon]) -> Daemon:
    """One that serves."""
    made = new_mounted()
    made.start()
    return made
