"""Daemons of root in places that every user may enter: what is tested is what ckptd's own modes and checks keep out."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_node_daemon import Daemon, clear_mounts


@pytest.fixture(autouse=True)
def _as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's daemon has several users, and only root can be each of them")


@pytest.fixture
def new_node(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons on one remote. `access`: lines of `[access]`."""
    place = Path(tempfile.mkdtemp(prefix="ckptd-security-"))
    place.chmod(0o755)
    made: list[Daemon] = []

    def make(*, access: str = "", **settings: object) -> Daemon:
        number = len(made)
        ram = Path(f"/dev/shm/ckptd-security-{os.getpid()}-{number}")
        daemon = Daemon(
            place / f"node-{number}", ram, **{"remote": f"file://{tmp_path}/remote", "front": "watch", **settings}
        )
        with daemon.config.open("a") as config:
            config.write(f"[access]\n{access}\n")
        made.append(daemon)
        return daemon

    try:
        yield make
    finally:
        for daemon in made:
            daemon.end()
            clear_mounts(daemon.volume, daemon.ram)
            shutil.rmtree(daemon.ram, ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def node(new_node: Callable[..., Daemon]) -> Daemon:
    """One that serves a watched volume."""
    made = new_node()
    made.start()
    return made
