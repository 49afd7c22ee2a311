"""What docs/semantics.md says of a volume with a daemon behind it, and no other test holds."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_mounted_volume import server_pid
from tests_node_daemon import MIB, Daemon, clear_mounts, save

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_semantics")]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Daemon]]:
    """Two nodes of one remote, shared by all tests, because starting one takes seconds: each test has a run of its own."""
    home = tmp_path_factory.mktemp("nodes")
    remote = f"file://{home}/remote"
    ram = Path(f"/dev/shm/ckptd-test-{os.getpid()}-semantics")
    mounted = Daemon(home / "mounted", ram / "mounted", remote=remote, front="mount")
    other = Daemon(home / "other", ram / "other", remote=remote, front="watch")
    try:
        mounted.start()
        other.start()
        yield mounted, other
    finally:
        for daemon in (mounted, other):
            daemon.end()
            clear_mounts(daemon.volume, daemon.ram)
        shutil.rmtree(ram)


@pytest.fixture
def mounted(nodes: tuple[Daemon, Daemon]) -> Daemon:
    return nodes[0]


@pytest.fixture
def other(nodes: tuple[Daemon, Daemon]) -> Daemon:
    """What it does to its own volume, a directory, is no concern here."""
    return nodes[1]


def test_a_name_that_was_not_there_is_seen_when_another_node_has_committed_it(mounted: Daemon, other: Daemon) -> None:
    folder = mounted.volume / "run-1/checkpoint-1"
    path = folder / "model.bin"
    (mounted.volume / "run-1").mkdir()
    for absent in (path, folder):
        with pytest.raises(FileNotFoundError):
            absent.stat()
    save(other.volume / "run-1/checkpoint-1", {"model.bin": b"m" * 1000, "DONE": b""})
    other.committed("run-1", 1)
    mounted.ctl("ls")
    mounted.until(path.exists, "it is shown", timeout=10)
    assert os.listdir(mounted.volume / "run-1") == ["checkpoint-1"]
    assert path.read_bytes() == b"m" * 1000
    with path.open("r+b") as file:  # it is a file like any other now
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


CALLS: dict[str, tuple[bool, Callable[[Path], object]]] = {
    "stat": (False, os.stat),
    "access": (False, lambda path: os.access(path, os.R_OK)),
    "listxattr": (False, os.listxattr),
    "statvfs": (False, os.statvfs),
    "chmod": (True, lambda path: path.chmod(0o600)),
    "chown": (True, lambda path: os.chown(path, 1001, 1001)),
    "utime": (True, lambda path: os.utime(path, (1, 1))),
    "setxattr": (True, lambda path: os.setxattr(path, "user.x", b"v")),
    "truncate": (True, lambda path: os.truncate(path, 5)),
    "link": (True, lambda path: os.link(path, path.with_suffix(".link"))),
}
"""Whether it fetches a cold file, by the call."""


def test_cold_files_are_fetched_by_what_needs_them_and_a_wait_can_be_ended(mounted: Daemon, other: Daemon) -> None:
    folder = mounted.volume / "run-2/checkpoint-1"
    save(other.volume / "run-2/checkpoint-1", {f"{name}.bin": b"m" * 1000 for name in [*CALLS, "wait"]} | {"DONE": b""})
    other.committed("run-2", 1)
    mounted.ctl("ls")
    mounted.until((folder / "wait.bin").exists, "they are shown", timeout=10)
    behind = mounted.ram / "volumes/ckpt/run-2/checkpoint-1"
    for name, (fetches, call) in CALLS.items():
        call(folder / f"{name}.bin")
        assert (behind / f"{name}.bin").is_symlink() is not fetches, name
    assert ((folder / "chmod.bin").stat().st_mode & 0o777, (folder / "chown.bin").stat().st_uid) == (0o600, 1001)
    assert (folder / "link.link").read_bytes() == b"m" * 1000
    assert (folder / "truncate.bin").read_bytes() == b"m" * 5
    with pytest.raises(OSError, match=rf"Errno {errno.ENODATA}\b"):
        os.getxattr(folder / "stat.bin", "user.x")
    (folder / "new").write_bytes(b"new")
    (folder / "new").replace(folder / "access.bin")
    assert (folder / "access.bin").read_bytes() == b"new", "over a cold file, which is not fetched for it"
    worker = mounted.worker_pid()
    os.kill(worker, signal.SIGSTOP)  # nobody fetches anything
    try:
        for by in (signal.SIGINT, signal.SIGKILL):
            code = "import sys; print('asks', flush=True); open(sys.argv[1])"
            reader = subprocess.Popen(
                [sys.executable, "-c", code, folder / "wait.bin"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"asks\n"
            with pytest.raises(subprocess.TimeoutExpired):
                reader.wait(0.3)
            reader.send_signal(by)
            assert reader.wait(10) == -by
            reader.stdout.close()
    finally:
        os.kill(worker, signal.SIGCONT)
    assert (folder / "wait.bin").read_bytes() == b"m" * 1000


def test_the_room_is_that_of_the_tier(mounted: Daemon) -> None:
    mount, tier = os.statvfs(mounted.volume), os.statvfs(mounted.ram)
    size = mount.f_blocks * mount.f_frsize
    assert size == tier.f_blocks * tier.f_frsize
    assert size == pytest.approx(512 * MIB * 9 / 8, rel=0.01), "an eighth more than the budget"
    shown = subprocess.run(["df", "-B1", "--output=size", mounted.volume], capture_output=True, text=True, check=True)
    assert int(shown.stdout.split()[1]) == size


def test_a_name_of_ours_below_the_root_is_a_file_that_stays_here(mounted: Daemon) -> None:
    save(mounted.volume / "run-4/checkpoint-1", {"model.bin": b"m" * 1000, ".ckptd-x": b"mine", "DONE": b""})
    mounted.committed("run-4", 1)
    mounted.ctl("flush")
    assert (mounted.volume / "run-4/checkpoint-1/.ckptd-x").read_bytes() == b"mine"
    assert sorted(os.listdir(mounted.remote / "run-4/checkpoint-1")) == ["DONE", "model.bin"]


def test_fsync_asks_nothing_of_the_remote(mounted: Daemon) -> None:
    away = mounted.remote.rename(mounted.home / "away")
    path = mounted.volume / "run-5/checkpoint-1/model.bin"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.write(b"m" * 1000)
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
    mounted.until(
        lambda: mounted.json("status")["exposure"]["bytes"] >= 1000, "it is known that the remote has not got it"
    )
    away.rename(mounted.remote)
    mounted.committed("run-5", 1)


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_locks_outlive_the_server_and_the_worker(mounted: Daemon) -> None:
    path: Path = mounted.volume / "run-6/lock"
    save(path.parent, {path.name: b"x"})
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            worker = mounted.worker_pid()
            for pid in (server_pid(mounted), worker):
                os.kill(pid, signal.SIGKILL)
            mounted.until(lambda: mounted.worker_pid() != worker, "another worker is there")
            with path.open("r+b") as file:
                for lock in (fcntl.flock, fcntl.lockf):
                    with pytest.raises(BlockingIOError):
                        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                holder.kill()
                holder.wait()
                for lock in (fcntl.flock, fcntl.lockf):
                    lock(file, fcntl.LOCK_EX)
        finally:
            holder.kill()
