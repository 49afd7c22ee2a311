"""A clean Debian below a directory, alive in mount and process namespaces of its own: nothing is left of it when it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

RELEASE = "bookworm"
PYTHON = "/usr/bin/python3.11"
"""The release's own, which the package must be built with."""
MIRROR = os.environ.get("CKPTD_TEST_DEBIAN_MIRROR", "http://deb.debian.org/debian")
_BOOT = """
set -e
cd "$1"
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t proc proc proc
mkdir -p ".$2"
mount --bind "$2" ".$2"
touch run/booted
exec sleep infinity
"""


def reason_for_none() -> str:
    """Why there can be no such Debian here; "" where there can."""
    if os.geteuid() != 0:
        return "only root can make a Debian in a directory"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in ("debootstrap", "dpkg-deb", "unshare", "nsenter") if not shutil.which(name, path=path)]
    if missing:
        return f"not installed here: {', '.join(missing)} (make packagers)"
    absent = [path for path in (PYTHON, "/dev/fuse") if not os.path.exists(path)]
    return f"there is no {absent[0]} here" if absent else ""


def bootstrap(root: Path) -> None:
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    command = ("debootstrap", "--variant=minbase", "--include=python3", RELEASE, str(root), MIRROR)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


class Debian:
    def __init__(self, root: Path, pid: int) -> None:
        self.root, self._pid = root, pid

    def run(self, command: str, *, check: bool = True, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """By its shell, as root."""
        words = [*self.words, "/bin/sh", "-c", command]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=timeout, env=self._environment
        )
        assert not check or done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.words, "/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def until(self, command: str) -> None:
        end = time.monotonic() + 60
        while self.run(command, check=False).returncode:
            assert time.monotonic() < end, f"never: {command}"
            time.sleep(0.2)

    _environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}

    @property
    def words(self) -> list[str]:
        """Before a command: in it."""
        return ["nsenter", "-t", str(self._pid), "-m", "-p", "chroot", str(self.root)]


@contextlib.contextmanager
def running(root: Path, common: Path) -> Iterator[Debian]:
    """With its end all of its processes are killed, and with them its mounts are gone.

    `common`: a directory that is seen in it by the same path.
    """
    words = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        _BOOT,
        "sh",
    ]
    holder = subprocess.Popen([*words, str(root), str(common)])
    try:
        end = time.monotonic() + 30
        while not (pid := _child_of(holder.pid)) or not os.path.exists(f"/proc/{pid}/root{root}/run/booted"):
            assert holder.poll() is None, f"it ended with {holder.returncode}"
            assert time.monotonic() < end, "it does not boot"
            time.sleep(0.05)
        yield Debian(root, pid)
    finally:
        holder.kill()
        holder.wait()


def _child_of(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except FileNotFoundError:
        return 0
    return int(text.split()[0]) if text.split() else 0
