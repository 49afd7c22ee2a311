"""A clean Debian with its systemd, alive in namespaces and a control group of its own: nothing is left of it when it ends.

Its devices are its own, and the kernel's settings are read-only: what it sets up at its boot, it sets up for itself.
"""

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
_GROUPS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
"""Where a cgroup v2 hierarchy is: beside those of v1, or alone."""
_BOOT = """
set -e
mount -t tmpfs tmpfs "$1"
debootstrap --variant=minbase --include=python3,python3-apt,systemd-sysv "$3" "$1" "$4" > "$2/debootstrap.log" 2>&1
cd "$1"
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/shm dev/pts
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229; do
    name="${device%%:*}" numbers="${device#*:}"
    mknod -m 666 "dev/$name" c "${numbers%:*}" "${numbers#*:}"
done
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs run
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p ".$2"
mount --bind "$2" ".$2"
ln -sf /dev/null etc/systemd/system/getty.target
container=test exec chroot . /lib/systemd/systemd --system
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
    if absent or not _group():
        return f"there is no {absent[0] if absent else 'cgroup v2'} here"
    return ""


def _group() -> str:
    """Where a control group can be made; "" where none can."""
    return next((path for path in _GROUPS if os.path.exists(f"{path}/cgroup.procs")), "")


class Debian:
    def __init__(self, root: Path, pid: int) -> None:
        self._root, self._pid = root, pid
        self.root = Path(f"/proc/{pid}/root")
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
        return ["nsenter", "-t", str(self._pid), "-m", "-p", "-C", "chroot", str(self._root)]


@contextlib.contextmanager
def running(root: Path, common: Path) -> Iterator[Debian]:
    """It is made in memory. With its end all of its processes are killed, and its file systems are gone.

    `root`: an empty directory. `common`: one that is seen in it by the same path.
    """
    group = Path(_group(), f"ckptd-test-{os.getpid()}")
    group.mkdir()
    unshared = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--cgroup",
        "--ipc",
        "--uts",
        "--fork",
        "--kill-child",
    ]
    boot = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    words = ["sh", "-c", boot, "sh", *unshared, "sh", "-c", _BOOT, "sh", str(root), str(common), RELEASE, MIRROR]
    holder = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )  # fmt: skip
    try:
        yield Debian(root, _booted(holder, root, common / "debootstrap.log"))
    finally:
        holder.kill()
        holder.communicate()
        while "populated 1" in (group / "cgroup.events").read_text(encoding="ascii"):
            time.sleep(0.05)  # killed with their init, and not all gone yet
        for folder in sorted(group.rglob("*/"), key=lambda folder: len(folder.parts), reverse=True):
            folder.rmdir()
        group.rmdir()


def _booted(holder: subprocess.Popen[str], root: Path, log: Path) -> int:
    """The pid of its systemd, once that has started everything."""
    end = time.monotonic() + 400
    while True:
        if holder.poll() is not None:
            said = log.read_text(encoding="utf-8")[-4000:] if log.exists() else ""
            raise AssertionError(f"{said}{holder.communicate()[1]}")
        assert time.monotonic() < end, "it does not boot"
        pid = _child_of(holder.pid)
        if pid and os.path.exists(f"/proc/{pid}/root/run/systemd/private"):
            words = [*Debian(root, pid).words, "systemctl", "is-system-running"]
            done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=30)
            if done.stdout.strip() in {"running", "degraded"}:
                return pid
        time.sleep(0.1)


def _child_of(pid: int) -> int:
    """0: it has none yet."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return int(text.split()[0]) if text.split() else 0
