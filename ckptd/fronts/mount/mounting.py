"""/dev/fuse and mount(2), without fusermount: the holder is root anyway, because passthrough demands it."""

from __future__ import annotations

import errno
import os

from ckptd.fronts.mount import system

MS_NOSUID, MS_NODEV = 2, 4
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
TYPE = b"fuse.ckptd"
DEVICE = os.makedev(10, 229)
"""MISC_MAJOR and FUSE_MINOR in <linux/miscdevice.h>"""


def open_device() -> int:
    """Raises OSError: ENOENT and ENODEV when the kernel has no FUSE, or something else is in its place."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    if os.fstat(fd).st_rdev != DEVICE:
        os.close(fd)
        raise OSError(errno.ENODEV, "is not the FUSE device")
    return fd


def mount(fuse_fd: int, target: bytes, source: bytes = b"ckptd") -> None:
    """For all users, with permissions checked by the kernel. From here on callers wait until a server answers.

    Raises OSError: EPERM without CAP_SYS_ADMIN, ENOENT and ENOTDIR for what is no directory.
    """
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions" % fuse_fd
    system.mount(source, target, TYPE, MS_NOSUID | MS_NODEV, options)


def unmount(target: bytes, *, lazily: bool = False) -> None:
    """Raises OSError: EBUSY while somebody uses it (unless `lazily`), EINVAL when nothing is mounted there."""
    system.umount2(target, UMOUNT_NOFOLLOW | (MNT_DETACH if lazily else 0))


def is_stale(target: bytes) -> bool:
    """A mount that nobody can serve any more, because its holder is gone: every call says ENOTCONN. It is to be unmounted lazily.

    A mount whose server is only being replaced makes this call wait instead.
    """
    try:
        os.stat(target)
    except OSError as error:
        return error.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    return False
