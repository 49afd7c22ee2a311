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
mount -t tmpfs tmpfs "$1"
debootstrap --variant=minbase --include=python3 "$3" "$1" "$4" > "$2/debootstrap.log" 2>&1
cd "$1"
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs run
mount -t proc proc proc
mkdir -p ".$2"
mount --bind "$2" ".$2"
touch "$2/booted"
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


class Debian:
    def __init__(self, root: Path, pid: int) -> None:
        self._root, self._pid = root, pid
        self.root = Path(f"/proc/{pid}/root{root}")
        """Its files, as seen from outside."""

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

    _environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}

    @property
    def words(self) -> list[str]:
        """Before a command: in it."""
        return ["nsenter", "-t", str(self._pid), "-m", "-p", "chroot", str(self._root)]


@contextlib.contextmanager
def running(root: Path, common: Path) -> Iterator[Debian]:
    """It is made in memory. With its end all of its processes are killed, and its file systems are gone.

    `root`: an empty directory. `common`: one that is seen in it by the same path.
    """
    unshared = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
    words = (*unshared, "sh", "-c", _BOOT, "sh", str(root), str(common), RELEASE, MIRROR)
    holder = subprocess.Popen(words, env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
    try:
        log, end = common / "debootstrap.log", time.monotonic() + 600
        while not (common / "booted").exists():
            assert holder.poll() is None, log.read_text(encoding="utf-8")[-4000:]
            assert time.monotonic() < end, "it does not boot"
            time.sleep(0.1)
        yield Debian(root, _child_of(holder.pid))
    finally:
        holder.kill()
        holder.wait()


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()[0])
