"""What is known of a file without reading it, and setting it on another."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from ckptd.domain.model import Attributes, Stamp

_ORIGIN = "user.ckptd.path"


def stamp_of(path: str) -> Stamp | None:
    """None for what is not there or no regular file; links are not followed."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return stamp_from(found) if stat.S_ISREG(found.st_mode) else None


def attributes_of(path: str) -> Attributes:
    """Raises OSError. Links are not followed."""
    found = os.lstat(path)
    return Attributes(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns)


def stamp_from(found: os.stat_result) -> Stamp:
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def apply(fd: int, attributes: Attributes) -> None:
    """Owner (as root only), then mode (a change of owner clears bits), then times.

    Set-user-id and its kind are never set: attributes may come from a remote that others can write.
    """
    if os.geteuid() == 0:
        os.fchown(fd, attributes.uid, attributes.gid)
    os.fchmod(fd, attributes.mode & 0o777)
    os.utime(fd, ns=(attributes.mtime_ns, attributes.mtime_ns))


def write_origin(path: str, relative: str) -> None:
    """Notes on a demoted file which path of its volume it belongs to, so that a lost catalog can be rebuilt.

    File systems without user attributes (and tmpfs before Linux 6.6) go without.
    """
    with suppress(OSError):
        os.setxattr(path, _ORIGIN, os.fsencode(relative), follow_symlinks=False)


def read_origin(path: str) -> str | None:
    try:
        return os.fsdecode(os.getxattr(path, _ORIGIN, follow_symlinks=False))
    except OSError:
        return None


def dress(staged: str, attributes: Attributes) -> Stamp:
    """Gives a staged file its attributes and returns its stamp; a rename does not change it."""
    fd = os.open(staged, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        apply(fd, attributes)
        return stamp_from(os.fstat(fd))
    finally:
        os.close(fd)
