"""A mount made in a container's mount namespace is seen by jobs outside of it, or not: real namespaces, a real daemon.

`host` stands for the node (its `/` shared, as systemd makes it), the others are made from it as a container runtime does for
`mountPropagation`: Bidirectional shares, HostToContainer receives, None is cut off.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_node_daemon import MIB, Daemon
from tests_node_fixtures import new_daemon

__all__ = ["new_daemon"]

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_propagation")]
SHARED = 'mount --bind "$1" "$1" && mount --make-rshared "$1" && touch "$1/up" && exec sleep infinity'
SAVE = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True)
(folder / "model.bin").write_bytes(b"m" * (1 << 20))
(folder / "trainer_state.json").write_text("{}")
"""


class Namespace:
    def __init__(self, pid: int) -> None:
        self.enter = ["nsenter", "-t", str(pid), "-m"]

    def inner(self, propagation: str) -> list[str]:
        """Before a command: a mount namespace of its own, made from this one."""
        return [*self.enter, "unshare", "--mount", "--propagation", propagation]

    def is_mounted(self, path: Path) -> bool:
        mounts = subprocess.run([*self.enter, "cat", "/proc/self/mounts"], check=True, capture_output=True, text=True)
        return any(line.split()[1] == str(path) for line in mounts.stdout.splitlines())

    def save(self, folder: Path) -> None:
        subprocess.run([*self.enter, sys.executable, "-c", SAVE, str(folder)], check=True)


@contextlib.contextmanager
def living(command: list[str], sign: Path | None = None) -> Iterator[Namespace]:
    holder = subprocess.Popen(command)
    try:
        end = time.monotonic() + 20
        own = Path("/proc/self/ns/mnt").readlink()
        while Path(f"/proc/{holder.pid}/ns/mnt").readlink() == own or not (sign is None or sign.exists()):
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.1)  # nsenter is in the node's namespace for a moment before unshare(2) makes another
        yield Namespace(holder.pid)
    finally:
        holder.kill()
        holder.wait()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    made = tmp_path / "shared"
    made.mkdir()
    return made


@pytest.fixture
def host(shared: Path) -> Iterator[Namespace]:
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SHARED, "sh", str(shared)]
    with living(words, shared / "up") as made:
        yield made


def below(shared: Path, daemon: Daemon) -> Daemon:
    """Its RAM tier below the shared directory, as in packaging/kubernetes."""
    daemon.config.write_text(daemon.config.read_text().replace(str(daemon.ram), str(shared / ".ram")))
    return daemon


def test_a_mount_of_a_bidirectional_container_is_seen_by_the_node_and_by_pods_that_receive(
    new_daemon: Callable[..., Daemon], host: Namespace, shared: Path
) -> None:
    volume = shared / "ckpt"
    with (
        living([*host.inner("slave"), "sleep", "infinity"]) as early,
        living([*host.inner("private"), "sleep", "infinity"]) as cut_off,
    ):
        daemon = below(shared, new_daemon(front="mount", volume=volume, prefix=host.inner("unchanged")))
        daemon.start()
        with living([*host.inner("slave"), "sleep", "infinity"]) as late:
            seen = [namespace.is_mounted(volume) for namespace in (host, early, late, cut_off)]
            assert seen == [True, True, True, False]
            early.save(volume / "run-1/checkpoint-1")
            late.save(volume / "run-2/checkpoint-1")
            daemon.committed("run-1", 1)
            daemon.committed("run-2", 1)
            cut_off.save(volume / "run-3/checkpoint-1")  # into the directory below the mount, on the node's disk
            assert daemon.ctl("ls", "run-3", check=4)
            assert daemon.terminate() == 0
            assert not any(namespace.is_mounted(volume) for namespace in (host, early, late))


def test_what_is_in_memory_outlives_a_container_that_is_killed(
    new_daemon: Callable[..., Daemon], host: Namespace, shared: Path
) -> None:
    volume = shared / "ckpt"
    daemon = below(shared, new_daemon(front="mount", volume=volume, prefix=host.inner("unchanged")))
    daemon.start()
    with living([*host.inner("slave"), "sleep", "infinity"]) as pod:
        pod.save(volume / "run-1/checkpoint-1")
        daemon.crash()
        assert host.is_mounted(shared / ".ram")
        daemon.start()
        read = subprocess.run(
            [*pod.enter, "cat", volume / "run-1/checkpoint-1/model.bin"], check=True, capture_output=True
        )
        assert read.stdout == b"m" * MIB
        daemon.committed("run-1", 1)
        assert daemon.terminate() == 0


def test_a_service_with_a_mount_namespace_of_its_own_would_mount_for_nobody(
    new_daemon: Callable[..., Daemon], host: Namespace, shared: Path
) -> None:
    """What PrivateTmp= and its like do in a unit (systemd.exec(5)): received are the node's mounts, given are none."""
    daemon = below(shared, new_daemon(front="mount", volume=shared / "ckpt", prefix=host.inner("slave")))
    daemon.start()
    assert daemon.json("status")["volumes"][0]["front"] == "mount"
    assert not host.is_mounted(shared / "ckpt")
    assert daemon.terminate() == 0
