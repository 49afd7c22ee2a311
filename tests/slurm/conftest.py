"""A cluster of two nodes with a daemon on each, which have nothing in common but the remote."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers.slurm_cluster import NODES, SlurmCluster
from tests_node_daemon import Daemon, clear_mounts
from tests_slurm_site import Site


@contextlib.contextmanager
def sites(slurm: SlurmCluster) -> Iterator[Callable[..., Site]]:
    # Not below tmp_path, whose parents only root may enter: jobs run as other users.
    base = Path(tempfile.mkdtemp(prefix="ckptd-slurm-site-"))
    base.chmod(0o755)
    made: list[Daemon] = []

    def make(*, front: str = "watch", budget: int = 20, **settings: str) -> Site:
        remote = settings.pop("remote", f"file://{base}/remote")
        daemons = {}
        for node in NODES:
            ram = Path(f"/dev/shm/ckptd-test-{os.getpid()}-{base.name[-8:]}-{node}")
            daemons[node] = Daemon(base / node, ram, remote=remote, node=node, front=front, **settings)
            made.append(daemons[node])
            daemons[node].start()
        site = Site(slurm, daemons, base)
        for node in NODES:
            site.defaults(node, CKPTD_PROLOG_BUDGET=budget, CKPTD_EPILOG_BUDGET=budget)
        return site

    try:
        yield make
        slurm.cancel_all()
    finally:
        for daemon in made:
            daemon.end()
            clear_mounts(daemon.volume, daemon.ram)
            shutil.rmtree(daemon.ram, ignore_errors=True)
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def new_site(slurm: SlurmCluster) -> Iterator[Callable[..., Site]]:
    with sites(slurm) as make:
        yield make


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Site:
    return new_site()


@pytest.fixture(scope="module")
def shared_site(slurm_running: SlurmCluster) -> Iterator[Site]:
    """For tests that leave it as it was."""
    with sites(slurm_running) as make:
        yield make()
