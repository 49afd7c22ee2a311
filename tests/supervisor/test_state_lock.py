from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckptd.domain.errors import AlreadyRunning, StateUnusable
from ckptd.supervisor.lock import StateLock


def test_the_directory_is_taken_until_the_lock_is_released(tmp_path: Path) -> None:
    lock = StateLock.acquire(str(tmp_path / "state"))
    with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()} "):
        StateLock.acquire(str(tmp_path / "state"))
    lock.release()
    StateLock.acquire(str(tmp_path / "state")).release()


def test_a_pid_left_by_a_dead_daemon_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n", encoding="ascii")  # alive, and surely not ours
    StateLock.acquire(str(tmp_path)).release()


def test_an_orphan_that_inherited_the_lock_keeps_the_directory_taken_and_is_told_apart(tmp_path: Path) -> None:
    """A worker in uninterruptible sleep outlives its killed supervisor for a while; `cat` stands in for it."""
    program = (
        "import os, subprocess, sys; from ckptd.supervisor.lock import StateLock;"
        "lock = StateLock.acquire(sys.argv[1]);"
        "subprocess.Popen(['cat'], pass_fds=[lock.fd]); os._exit(0)"
    )
    reading, writing = os.pipe()
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], stdin=reading, check=True, env={"PYTHONPATH": root})
    os.close(reading)
    try:
        with pytest.raises(AlreadyRunning, match="was killed"):
            StateLock.acquire(str(tmp_path))
    finally:
        os.close(writing)  # `cat` reads its end and goes
    _acquire_patiently(tmp_path)


def _acquire_patiently(directory: Path) -> None:
    for _ in range(1000):
        try:
            StateLock.acquire(str(directory)).release()
        except AlreadyRunning:
            continue
        return
    raise AssertionError("the orphan never let go")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this machine")
def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing smaller than a file system of our own is full; so the write goes to the device that always is."""
    full = os.open("/dev/full", os.O_RDWR)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda _fd, data, offset: real(full, data, offset))
    with pytest.raises(StateUnusable, match="No space left"):
        StateLock.acquire(str(tmp_path))
    os.close(full)
