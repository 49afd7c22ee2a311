"""File system calls as data: the same one can be made on a mount and on a plain tmpfs, and what came of it compared."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckptd.fronts.mount import attributes, system

NAMES = [
    "a",
    "b",
    "c",
    "d",
    "e",
    "d/a",
    "d/b",
    "e/a",
    "e/d",
    "e/d/a",
    "a/b",
    "n" * 255,
    "n" * 256,
    "d/caf\udce9",
    "missing/x",
]
USERS = [(0, 0, []), (0, 0, []), (1001, 1001, []), (1002, 1002, [1001])]
MODES = [0o644, 0o600, 0o666, 0o755, 0o777, 0o4755, 0o2775, 0o6777, 0o1777, 0o000, 0o444]
SIZES = [0, 1, 10, 4095, 4096, 5000, 70_000, 2_200_000]
FLAGS = [
    os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_SYNC, os.O_RDONLY | os.O_CREAT, os.O_RDONLY | os.O_DIRECTORY, os.O_RDWR | os.O_APPEND,
    os.O_RDONLY | os.O_NOFOLLOW,
]  # fmt: skip
NOW = None


@dataclass
class Side:
    """One of the two file systems, and what is open on it (the same numbers on both)."""

    root: Path
    reference: bool = False
    """The plain tmpfs, which is brought to what the mount documents where the kernel makes the two differ."""
    files: list[int] = field(default_factory=list)

    def at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def fd(self, number: int) -> int:
        if not self.files:
            raise OSError(errno.EBADF, "none is open")
        return self.files[number % len(self.files)]

    def close(self) -> None:
        for fd in self.files:
            os.close(fd)
        self.files.clear()


def call(side: Side, name: str, *arguments: Any, user: int = 0) -> Any:
    """What the call returned, or its errno as a string, made as one of the users."""
    uid, gid, groups = USERS[user]
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        return CALLS[name](side, *arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])


def _open(side: Side, name: str, flags: int, mode: int) -> None:
    side.files.append(os.open(side.at(name), flags | os.O_NONBLOCK, mode))  # a fifo may have come under this name


def _close(side: Side, number: int) -> None:
    fd = side.fd(number)
    side.files.remove(fd)
    os.close(fd)


def _lseek(side: Side, number: int, offset: int, whence: int) -> int:
    fd = side.fd(number)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        # The kernel moves in directories by itself, each file system in its own way (generic_file_llseek in fs/fuse/dir.c).
        raise OSError(errno.EISDIR, "not compared")
    return os.lseek(fd, offset, whence)


def _map(side: Side, number: int, offset: int, data: bytes) -> None:
    fd = side.fd(number)
    size = os.fstat(fd).st_size
    if not size:
        raise OSError(errno.EINVAL, "empty")
    with mmap.mmap(fd, size) as mapped:
        data = data[: max(0, size - offset)]
        mapped[offset : offset + len(data)] = data


def _fallocate(side: Side, number: int, mode: int, offset: int, size: int) -> None:
    """The one difference that is known: before FALLOCATE the kernel takes a file's privileges away, as ext4 and xfs do
    (file_modified()), where tmpfs leaves them. Nothing but these bits is brought in line, and only where a FUSE kernel asks.
    """
    fd = side.fd(number)
    try:
        system.fallocate(fd, mode, offset, size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.ENOSPC}:
            raise  # refused before any file system was asked
        _without_privileges(side, fd)
        raise
    _without_privileges(side, fd)


def _without_privileges(side: Side, fd: int) -> None:
    uid = os.geteuid()
    if side.reference and uid:
        os.seteuid(0)
        os.fchmod(fd, attributes.without_privileges(os.fstat(fd).st_mode))
        os.seteuid(uid)


def _chown(side: Side, name: str, uid: int, gid: int) -> None:
    """chown(-1, -1) of somebody else's file that has a set-id bit: tmpfs refuses to take the bit away, a FUSE kernel does not
    ask who it is (HANDLE_KILLPRIV_V2), and its request is that of a write. Nothing else of chown is left out.
    """
    path, caller = side.at(name), os.geteuid()
    if (uid, gid) == (-1, -1) and caller:
        found = os.lstat(path)
        if found.st_uid != caller and stat.S_ISREG(found.st_mode) and found.st_mode & (stat.S_ISUID | stat.S_ISGID):
            raise OSError(errno.EPERM, "not compared")
    os.chown(path, uid, gid, follow_symlinks=False)


def _copy(side: Side, source: int, target: int, count: int, at: int, to: int) -> int:
    return os.copy_file_range(side.fd(source), side.fd(target), count, at, to)


def _rename2(side: Side, old: str, new: str, flags: int) -> None:
    system.renameat2(system.AT_FDCWD, os.fsencode(side.at(old)), system.AT_FDCWD, os.fsencode(side.at(new)), flags)


def _times(side: Side, name: str, atime: int | None, mtime: int | None) -> None:
    def one(value: int | None) -> tuple[int, int]:
        return (0, system.UTIME_OMIT) if value is None else (0, system.UTIME_NOW) if value < -5 else (value, 500)

    system.utimensat(system.AT_FDCWD, os.fsencode(side.at(name)), one(atime) + one(mtime))


CALLS: dict[str, Any] = {
    "open": _open,
    "close": _close,
    "pwrite": lambda side, number, offset, data: os.pwrite(side.fd(number), data, offset),
    "write": lambda side, number, data: os.write(side.fd(number), data),
    "pread": lambda side, number, offset, size: hashlib.md5(os.pread(side.fd(number), size, offset)).hexdigest(),
    "map": _map,
    "ftruncate": lambda side, number, size: os.ftruncate(side.fd(number), size),
    "truncate": lambda side, name, size: os.truncate(side.at(name), size),
    "fallocate": _fallocate,
    "fsync": lambda side, number: os.fsync(side.fd(number)),
    "fchmod": lambda side, number, mode: os.fchmod(side.fd(number), mode),
    "lseek": _lseek,
    "copy": _copy,
    "unlink": lambda side, name: os.unlink(side.at(name)),
    "mkdir": lambda side, name, mode: os.mkdir(side.at(name), mode),
    "rmdir": lambda side, name: os.rmdir(side.at(name)),
    "rename": lambda side, old, new: os.rename(side.at(old), side.at(new)),
    "rename2": _rename2,
    "link": lambda side, old, new: os.link(side.at(old), side.at(new), follow_symlinks=False),
    "symlink": lambda side, target, name: os.symlink(target, side.at(name)),
    "mkfifo": lambda side, name, mode: os.mkfifo(side.at(name), mode),
    "mknod": lambda side, name, mode: os.mknod(side.at(name), mode | stat.S_IFREG),
    "chmod": lambda side, name, mode: os.chmod(side.at(name), mode),
    "chown": _chown,
    "times": _times,
    "setxattr": lambda side, name, key, value, flags: os.setxattr(side.at(name), key, value, flags),
    "getxattr": lambda side, name, key: os.getxattr(side.at(name), key),
    "removexattr": lambda side, name, key: os.removexattr(side.at(name), key),
    "access": lambda side, name, mode: os.access(side.at(name), mode, effective_ids=True),
    "listdir": lambda side, name: sorted(os.listdir(side.at(name))),
    "readlink": lambda side, name: os.readlink(side.at(name)),
}


def picture(side: Side) -> dict[str, Any]:
    """All that can be seen of a tree and of the open files, but for times that were not set, and inode numbers."""
    seen: dict[str, Any] = {}
    for directory, names, files in os.walk(side.root):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            seen[os.path.relpath(path, side.root)] = one(path)
    for number, fd in enumerate(side.files):
        found = os.fstat(fd)
        seen[f"fd {number}"] = (found.st_mode, found.st_nlink, found.st_size, found.st_uid, found.st_gid)
    return seen


def one(path: str) -> Any:
    found = os.lstat(path)
    basic = (oct(found.st_mode), found.st_nlink, found.st_uid, found.st_gid)
    if stat.S_ISDIR(found.st_mode):
        return (*basic, os.listxattr(path))
    if stat.S_ISLNK(found.st_mode):
        return (*basic, os.readlink(path))
    if not stat.S_ISREG(found.st_mode):
        return basic
    with open(path, "rb") as file:
        content = hashlib.md5(file.read()).hexdigest()
    # Times of the clock differ between the two trees by what a test takes; those that were set are far in the past.
    mtime = found.st_mtime_ns if found.st_mtime < 1_000_000 else "now"
    attributes = {name: os.getxattr(path, name) for name in sorted(os.listxattr(path))}
    return (*basic, found.st_size, content, mtime, attributes)
