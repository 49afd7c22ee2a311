"""The fixtures that make daemons, for the tests of a node and for those of real frameworks."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_node_daemon import Daemon, clear_mounts

_NUMBERS = itertools.count()


@pytest.fixture
def new_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes real daemons with tiers, state and sockets of their own; all of it is gone after the test."""
    made: list[Daemon] = []

    def make(**settings: object) -> Daemon:
        number = next(_NUMBERS)
        ram = Path(f"/dev/shm/ckptd-test-{os.getpid()}-{number}")
        daemon = Daemon(tmp_path / f"node-{number}", ram, **settings)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.end()
        clear_mounts(daemon.volume, daemon.ram)
        shutil.rmtree(daemon.ram, ignore_errors=True)


@pytest.fixture
def daemon(new_daemon: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    """One that serves."""
    made = new_daemon(remote=f"file://{tmp_path}/remote")
    made.start()
    return made
