"""`fsync = remote`: a job's fsync returns when the remote has what it has written, and not before."""

from __future__ import annotations

import errno
import itertools
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.fault_proxy import Fault
from tests_mounted_volume import server_pid
from tests_node_bucket import PART, TRANSFER, Bucket, events, options
from tests_node_daemon import MIB, Daemon, clear_mounts, save
from tests_node_remote import away

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_fsync")]
REMOTE = 'fsync = "remote"'
SCRIPT = Path(__file__).with_name("tests_mounted_syncer.py")


class Job:
    """A process of its own: a test that waited in a call that nobody answers could not be ended."""

    def __init__(self, path: Path, size: int, *more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", SCRIPT, path, str(size), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line.strip())

    def says(self, timeout: float = 30) -> str:
        return self._said.get(timeout=timeout)

    def silent(self, seconds: float) -> bool:
        try:
            self._said.put(self._said.get(timeout=seconds))
        except queue.Empty:
            return True
        return False

    def tell(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture
def job() -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def start(path: Path, size: int, *more: str) -> Job:
        jobs.append(Job(path, size, *more))
        assert jobs[-1].says() == "written"
        return jobs[-1]

    yield start
    for each in jobs:
        each.end()


class Run:
    """One run of the node, which all tests share: starting one takes seconds."""

    numbers = itertools.count()

    def __init__(self, daemon: Daemon) -> None:
        self.name = f"run-{next(self.numbers)}"
        self.folder, self.there = (base / self.name / "checkpoint-1" for base in (daemon.volume, daemon.remote))

    def same(self, name: str = "model.bin") -> bool:
        """The remote has what the job sees."""
        return (self.there / name).read_bytes() == (self.folder / name).read_bytes()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("fsync")
    ram = Path(f"/dev/shm/ckptd-test-{os.getpid()}-fsync")
    daemon = Daemon(home / "node", ram, policy=REMOTE, front="mount")
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.end()
        clear_mounts(daemon.volume, ram)
        shutil.rmtree(ram, ignore_errors=True)


@pytest.fixture
def run(node: Daemon) -> Run:
    node.until(lambda: node.get("/v1/status")["volumes"][0]["remote_ok"], "the remote is back from the test before")
    return Run(node)


@pytest.mark.s3
def test_it_returns_when_the_bucket_has_the_content_of_the_open_file(
    new_mounted: Callable[..., Daemon], s3_server: Any, s3_proxied: Any, job: Callable[..., Job]
) -> None:
    bucket, proxy = Bucket(s3_server, s3_proxied.url), s3_proxied.proxy
    daemon = new_mounted(remote=s3_proxied.url, options=options(s3_proxied), transfer=TRANSFER, policy=REMOTE)
    daemon.start()
    key = "run-1/checkpoint-1/model.bin"
    path = daemon.volume / key
    proxy.inject(Fault("PUT", r"partNumber=2", delay=3))
    writer = job(path, 2 * PART + 7)
    assert writer.silent(2)
    assert key not in bucket.names()
    assert writer.says() == "synced"
    assert proxy.unused == 0
    assert bucket.get(key) == path.read_bytes()
    assert daemon.get("/v1/status")["volumes"][0]["passthrough"]
    writer.tell("more")
    assert writer.says() == "synced more"
    assert bucket.get(key) == path.read_bytes()
    assert len(bucket.get(key)) == 2 * PART + 11
    sent = len(proxy.seen)
    writer.tell("close")
    assert writer.says() == "closed"
    daemon.committed("run-1", 1)
    assert not [asked for asked in proxy.seen[sent:] if asked[0] == "PUT" and "model.bin" in asked[1]], (
        "it is there already"
    )
    assert bucket.unfinished() == []
    bucket.clear()


def test_it_waits_while_the_remote_is_away_and_nobody_else_does(
    node: Daemon, run: Run, job: Callable[..., Job]
) -> None:
    other = Run(node)
    with away(node):
        writer = job(run.folder / "model.bin", MIB)
        assert writer.silent(2)
        began = time.monotonic()
        save(other.folder, {"model.bin": os.urandom(MIB)})
        assert (other.folder / "model.bin").stat().st_size == MIB
        assert os.listdir(run.folder) == ["model.bin"]
        assert len((run.folder / "model.bin").read_bytes()) == MIB, "of the file itself, too"
        assert time.monotonic() - began < 1
        assert writer.silent(0.5)
    assert writer.says() == "synced"
    assert run.same()


def test_it_is_an_error_when_the_remote_stays_away(new_mounted: Callable[..., Daemon], job: Callable[..., Job]) -> None:
    daemon = new_mounted(policy=REMOTE, transfer='fsync_timeout = "2s"')
    daemon.start()
    with away(daemon):
        assert job(daemon.volume / "run-1/checkpoint-1/model.bin", MIB).says(10) == f"failed {errno.EIO}"
    failed = events(daemon)["fsync.failed"]
    assert "within 2 s" in failed["message"]
    assert failed["fields"]["path"] == "run-1/checkpoint-1/model.bin"


def test_a_signal_ends_the_wait(node: Daemon, run: Run, job: Callable[..., Job]) -> None:
    with away(node):
        caught, killed = (job(run.folder / name, MIB) for name in "ab")
        assert caught.silent(0.5)
        caught.process.send_signal(signal.SIGUSR1)
        assert caught.says(5) == f"failed {errno.EINTR}"
        killed.process.send_signal(signal.SIGKILL)
        assert killed.process.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("who", ["worker", "server"])
def test_who_is_killed_meanwhile_only_makes_it_late(node: Daemon, run: Run, job: Callable[..., Job], who: str) -> None:
    with away(node):
        writer = job(run.folder / "model.bin", MIB)
        assert writer.silent(1)
        os.kill(node.worker_pid() if who == "worker" else server_pid(node), signal.SIGKILL)
        assert writer.silent(2)
    assert writer.says() == "synced"
    assert run.same()


def test_of_a_directory_it_waits_for_the_closed_files_in_it(node: Daemon, run: Run, job: Callable[..., Job]) -> None:
    with away(node):
        save(run.folder, {"config.json": b"{}", "sub/other.bin": b"o"})
        writer = job(run.folder / "model.bin", MIB, "dir")
        assert writer.silent(1)
    assert writer.says() == "synced"
    assert run.same()
    assert run.same("config.json")


def test_what_was_committed_is_written_anew_in_place(node: Daemon, run: Run, job: Callable[..., Job]) -> None:
    """The checkpoint is offered no more before its object is replaced, and is committed again after the close."""
    save(run.folder, {"model.bin": b"old", "DONE": b""})
    node.committed(run.name, 1)
    writer = job(run.folder / "model.bin", MIB)
    assert writer.says() == "synced"
    assert run.same()
    assert not list(node.remote.glob(f".ckptd/manifests/{run.name}/1/*.json"))
    writer.tell("close")
    assert writer.says() == "closed"
    save(run.folder, {"DONE": b""})
    node.committed(run.name, 1)
    assert run.same()


def test_a_file_that_is_deleted_after_it_leaves_nothing_behind(node: Daemon, run: Run, job: Callable[..., Job]) -> None:
    writer = job(run.folder / "model.bin", MIB)
    assert writer.says() == "synced"
    assert (run.there / "model.bin").exists()
    (run.folder / "model.bin").unlink()
    writer.tell("close")
    node.until(lambda: not (run.there / "model.bin").exists(), "its object is deleted", timeout=40)


def test_what_is_written_through_a_mapping_after_it_is_sent_at_the_close(node: Daemon, run: Run) -> None:
    """Which changes no time stamp: what was sent before must not be taken for the content."""
    script = """
import mmap, os, sys
os.makedirs(os.path.dirname(sys.argv[1]))
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 1 << 20)
with mmap.mmap(file, 1 << 20) as mapped:
    mapped[:] = b"a" * (1 << 20)
    os.fsync(file)
    assert open(sys.argv[2], "rb").read() == b"a" * (1 << 20)
    mapped[-1:] = b"b"
os.close(file)
"""
    subprocess.run(
        [sys.executable, "-I", "-c", script, run.folder / "model.bin", run.there / "model.bin"], check=True, timeout=60
    )
    save(run.folder, {"DONE": b""})
    node.committed(run.name, 1)
    assert (run.there / "model.bin").read_bytes()[-1:] == b"b"


def test_it_is_local_until_the_policy_says_otherwise(mounted: Daemon, job: Callable[..., Job]) -> None:
    with away(mounted):
        assert job(mounted.volume / "run-1/checkpoint-1/a", MIB).says(5) == "synced"
        mounted.ctl("policy", "set", "run-1", "fsync=remote")
        assert job(mounted.volume / "run-2/checkpoint-1/a", MIB).says(5) == "synced", "another run"
        waiting = job(mounted.volume / "run-1/checkpoint-1/b", MIB)
        assert waiting.silent(1)
    assert waiting.says() == "synced"
    mounted.ctl("policy", "set", "run-1", "fsync=local")
    with away(mounted):
        assert job(mounted.volume / "run-1/checkpoint-1/c", MIB).says(5) == "synced"


def test_a_watched_volume_says_that_it_cannot(new_mounted: Callable[..., Daemon]) -> None:
    daemon = new_mounted(front="watch", policy=REMOTE)
    daemon.start()
    assert "no effect" in events(daemon)["fsync.unheard"]["message"]
    refused = daemon.ctl("policy", "set", "run-1", "fsync=remote", check=2)
    assert "needs a mounted volume" in refused.stderr
