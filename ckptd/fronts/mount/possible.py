"""Can a mount be had on this machine, and at this path? Looks only; `doctor` and the supervisor ask the same questions."""

from __future__ import annotations

import os
import re
import stat
import time

from ckptd.fronts.mount import mounting
from ckptd.tiers.filesystem import mount_of

DEVICE = "/dev/fuse"
PASSTHROUGH_SINCE = (6, 9)
"""The first Linux whose kernel moves the bytes of a FUSE mount by itself (CONFIG_FUSE_PASSTHROUGH)."""
_DYING_S = 1.0
_CAP_SYS_ADMIN = 21  # <linux/capability.h>


def refused_here() -> str:
    """Why this process cannot mount; "" if it can."""
    if not _capable():
        return "mounting and passthrough need root (CAP_SYS_ADMIN)"
    try:
        os.close(mounting.open_device())
    except OSError as error:
        return f"{DEVICE}: {error.strerror} (modprobe fuse; in a container: --device {DEVICE})"
    return ""


def slow_here(release: str | None = None) -> str:
    """Why all bytes would go through the server; "" where the kernel can move them. `release`: as in uname(2)."""
    release = os.uname().release if release is None else release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found and (int(found[1]), int(found[2])) < PASSTHROUGH_SINCE:
        return f"Linux {release} has no FUSE passthrough, which came with 6.9"
    return ""


def refused_at(path: str) -> str:
    """Why nothing can be mounted at `path`, in words that follow its name; "" if it can (over a stale mount of ours, too)."""
    if mounting.is_stale(os.fsencode(path)):
        return ""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return _refused_above(os.path.dirname(path) or ".")
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if stat.S_ISLNK(found.st_mode):
        return f"is a symbolic link (to {os.readlink(path)})"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if os.path.ismount(path):
        kind = _kind(path)
        if kind == mounting.TYPE.decode() and _becomes_stale(path):
            return ""
        return f"is a mount already ({kind})"
    if os.listdir(path):
        return "is not empty: a mount would hide what is in it"
    return _inside(path)


def _becomes_stale(path: str) -> bool:
    """What a daemon that was killed just now leaves: its server dies with it, but a moment later."""
    end = time.monotonic() + _DYING_S
    while not mounting.is_stale(os.fsencode(path)):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _refused_above(folder: str) -> str:
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder) or "/"
    if not os.path.isdir(folder):
        return f"cannot be made: {folder} is not a directory"
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"cannot be made: {folder} is on a read-only file system"
    return _inside(folder)


def _inside(folder: str) -> str:
    kind = _kind(folder)
    return "lies inside a mount of ckptd" if kind == mounting.TYPE.decode() else ""


def _kind(path: str) -> str:
    found = mount_of(path)
    return "" if found is None else found.kind


def _capable() -> bool:
    with open("/proc/self/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status if ":" in line)
    return bool(int(fields["CapEff"], 16) >> _CAP_SYS_ADMIN & 1)
