"""System calls that Python's os has not, or not in full. All raise OSError with the errno of the call."""

from __future__ import annotations

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2

PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
"""capabilities(7): a change of the file system uid leaves the capabilities as they are."""

_SYS_GETDENTS64 = {"x86_64": 217, "aarch64": 61}
_DIRENT64 = struct.Struct("<QqHB")
"""d_ino d_off d_reclen d_type (linux_dirent64); the name follows, ended by a zero byte"""

_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_libc.utimensat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
_libc.futimens.argtypes = [ctypes.c_int, ctypes.c_char_p]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_TIMES = struct.Struct("<qqqq")


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(source_fd: int, source: bytes, target_fd: int, target: bytes, flags: int) -> None:
    _checked(_libc.renameat2(source_fd, source, target_fd, target, flags))


def utimensat(dir_fd: int, name: bytes, times: tuple[int, int, int, int]) -> None:
    """`times`: seconds and ns of access, then of modification; UTIME_NOW and UTIME_OMIT as ns. Follows no links."""
    _checked(_libc.utimensat(dir_fd, name, _TIMES.pack(*times), AT_SYMLINK_NOFOLLOW))


def futimens(fd: int, times: tuple[int, int, int, int]) -> None:
    _checked(_libc.futimens(fd, _TIMES.pack(*times)))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    _checked(_libc.fallocate(fd, mode, offset, length))


def keep_capabilities() -> None:
    """So that `act_as` changes who owns new files, and nothing else. Needs CAP_SETPCAP."""
    _checked(_libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0))


def act_as(uid: int, gid: int) -> None:
    """setfsuid(2), setfsgid(2) of this thread. They do not say when they fail; with CAP_SETUID they do not."""
    _libc.setfsuid(uid)
    _libc.setfsgid(gid)


def mount(source: bytes, target: bytes, kind: bytes, flags: int, options: bytes) -> None:
    _checked(_libc.mount(source, target, kind, flags, options))


def umount2(target: bytes, flags: int) -> None:
    _checked(_libc.umount2(target, flags))


class DirectoryReader:
    """getdents64(2), whose offsets (unlike those of os.scandir) can be handed on: they hold while names go, and longer."""

    ROOM = 32768

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(self.ROOM)
        self._number = _SYS_GETDENTS64[os.uname().machine]

    def read(self, fd: int, offset: int) -> list[tuple[int, int, int, bytes]]:
        """From an offset (0: the beginning): inode number, offset of the next, DT_ type, name. Empty at the end."""
        os.lseek(fd, offset, os.SEEK_SET)
        count = _checked(_libc.syscall(self._number, fd, self._buffer, self.ROOM))
        raw = self._buffer.raw[:count]
        found, at = [], 0
        while at < count:
            ino, following, length, kind = _DIRENT64.unpack_from(raw, at)
            found.append((ino, following, kind, raw[at + 19 : raw.index(b"\0", at + 19)]))
            at += length
        return found
