"""Which file system a path lies on: its kind by statfs(2), its mount by /proc/self/mountinfo. Linux only."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"

# <linux/magic.h>; out of the kernel's tree are Lustre (lustre_user.h, LL_SUPER_MAGIC), GPFS and BeeGFS (coreutils,
# src/stat.c: S_MAGIC_GPFS, S_MAGIC_FHGFS).
_NETWORK = {
    0x6969: "nfs",
    0x517B: "smb",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x65735546: "fuse",  # sshfs, s3fs, virtiofs, …: not ours to trust with memory speed, local or not
    0x0BD00BD0: "lustre",
    0x00C36400: "ceph",
    0x01021997: "9p",
    0x5346414F: "afs",
    0x6B414653: "afs",
    0x73757245: "coda",
    0x47504653: "gpfs",
    0x19830326: "beegfs",
}
_MEMORY = {0x01021994: "tmpfs", 0x858458F6: "ramfs"}
_DISK = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x794C7630: "overlayfs",
    0x2FC12FC1: "zfs",  # OpenZFS, ZFS_SUPER_MAGIC
    0xF2F52010: "f2fs",
}
_STATFS_BYTES = 512
"""More than `struct statfs` has on any architecture; `f_type` is its first word."""


@dataclass(frozen=True, slots=True)
class FileSystem:
    name: str
    """`ext4`, `tmpfs`, … or the magic number in hexadecimal."""
    network: bool
    """Other machines or a user process stand between us and the bytes."""
    in_memory: bool


@dataclass(frozen=True, slots=True)
class Mount:
    point: str
    kind: str
    options: tuple[str, ...]
    """Of the file system (`huge=within_size`, `size=…`), not of the mount point."""
    source: str
    """A device, or a name that the mounter chose."""


def filesystem_of(path: str) -> FileSystem:
    """Raises OSError where the path does not exist."""
    magic = _magic(path)
    name = _NETWORK.get(magic) or _MEMORY.get(magic) or _DISK.get(magic) or f"{magic:#x}"
    return FileSystem(name, magic in _NETWORK, magic in _MEMORY)


def _magic(path: str) -> int:
    # os.statvfs has no f_type: POSIX knows none.
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if libc.statfs(os.fsencode(path), buffer) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    # A 32-bit quantity in a word that is signed and wider on 64-bit machines.
    return int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF


def mount_of(path: str, mountinfo: str | None = None) -> Mount | None:
    """The mount that holds `path`. `mountinfo`: the file's text, for tests."""
    if mountinfo is None:
        with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
            mountinfo = file.read()
    return _mount_above(os.path.realpath(path), mountinfo)


def mounted_at(point: str) -> Mount | None:
    """What is mounted at exactly this real path, which is not touched: that would wait for a mount without a server."""
    with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        found = _mount_above(point, file.read())
    return found if found is not None and found.point == point else None


def _mount_above(real: str, mountinfo: str) -> Mount | None:
    best: Mount | None = None
    for line in mountinfo.splitlines():
        mount = _parse(line)
        # Later mounts cover earlier ones at the same place.
        if mount and _holds(mount.point, real) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _parse(line: str) -> Mount | None:
    """proc_pid_mountinfo(5): fields, optional ones, a dash, then kind, source and super options."""
    before, dash, after = line.partition(" - ")
    fields, rest = before.split(" "), after.split(" ")
    if not dash or len(fields) < 5 or len(rest) < 3:
        return None
    return Mount(_unescape(fields[4]), rest[0], tuple(rest[2].split(",")), _unescape(rest[1]))


def _unescape(text: str) -> str:
    """Space, tab, newline and backslash come as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _holds(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def huge_pages(path: str, mountinfo: str | None = None) -> bool:
    """Whether large files there get huge pages of themselves (`huge=advise` needs the job's cooperation, so: no)."""
    mount = mount_of(path, mountinfo)
    return mount is not None and mount.kind == "tmpfs" and bool({"huge=always", "huge=within_size"} & {*mount.options})
