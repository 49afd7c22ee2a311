"""What stat(2) says of a backing file, as the kernel wants it."""

from __future__ import annotations

import os
import stat as modes

from ckptd.fronts.mount import wire
from ckptd.tiers.stub import Stub

VALID = 1
"""Seconds for which the kernel keeps names and attributes. The daemon changes the backing tree too: it says so
(`invalidate`), and where that comes late, a node that is not there any more is ESTALE, on which the kernel looks again. So this
bounds only how long an old time stamp or size of a file that the daemon replaced may be seen. Names that are not there are
not kept at all."""
BLOCK = 4096
SECOND = 1_000_000_000
ELSEWHERE = 1 << 60
"""Added to inode numbers of other devices (objects of demoted files), so that they are no number of the backing tree."""

_entry = wire.ENTRY_OUT.pack
_attr = wire.ATTR_OUT.pack
NOTHING = wire.ENTRY_OUT.pack(*(0,) * 22)


def number(stat: os.stat_result, home: int) -> int:
    return stat.st_ino if stat.st_dev == home else stat.st_ino ^ ELSEWHERE


def entry(node: int, stat: os.stat_result, ino: int, nlink: int) -> bytes:
    """As struct fuse_entry_out. The generation is 0: node ids are never used twice."""
    atime, mtime, ctime = stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns
    return _entry(
        node, 0, VALID, VALID, 0, 0,
        ino, stat.st_size, stat.st_blocks, atime // SECOND, mtime // SECOND, ctime // SECOND,
        atime % SECOND, mtime % SECOND, ctime % SECOND, stat.st_mode, nlink, stat.st_uid, stat.st_gid,
        _device(stat), BLOCK, 0,
    )  # fmt: skip


def attributes(stat: os.stat_result, ino: int, nlink: int) -> bytes:
    """As struct fuse_attr_out."""
    atime, mtime, ctime = stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns
    return _attr(
        VALID, 0, 0,
        ino, stat.st_size, stat.st_blocks, atime // SECOND, mtime // SECOND, ctime // SECOND,
        atime % SECOND, mtime % SECOND, ctime % SECOND, stat.st_mode, nlink, stat.st_uid, stat.st_gid,
        _device(stat), BLOCK, 0,
    )  # fmt: skip


def _device(stat: os.stat_result) -> int:
    """new_encode_dev() of the kernel; 0 for all that is no device."""
    if not (modes.S_ISCHR(stat.st_mode) or modes.S_ISBLK(stat.st_mode)):
        return 0
    major, minor = os.major(stat.st_rdev), os.minor(stat.st_rdev)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def without_privileges(mode: int) -> int:
    """The mode that is left when somebody else writes: set-user-id goes, set-group-id of what its group may execute."""
    mode = modes.S_IMODE(mode) & ~modes.S_ISUID
    return mode & ~modes.S_ISGID if mode & modes.S_IXGRP else mode


def pretend(cold: Stub, link: os.stat_result) -> os.stat_result:
    """What stat(2) will say of a cold file when it is here. Blocks of 512 bytes as if it were not sparse."""
    second = cold.mtime_ns // SECOND
    return os.stat_result(
        (
            modes.S_IFREG | cold.mode, link.st_ino, link.st_dev, link.st_nlink, cold.uid, cold.gid, cold.size,
            second, second, second,
        ),
        {
            "st_atime_ns": cold.mtime_ns, "st_mtime_ns": cold.mtime_ns, "st_ctime_ns": cold.mtime_ns,
            "st_blocks": -(-cold.size // 512), "st_rdev": 0, "st_blksize": BLOCK,
        },
    )  # fmt: skip
