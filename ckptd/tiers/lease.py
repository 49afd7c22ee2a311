"""Who has a file open: asked with leases (fcntl(2), F_SETLEASE).

The kernel grants a write lease only while nobody else has the file open at all, a read lease only while nobody has it
open for writing, and it makes an open(2) that conflicts wait until the lease is gone. That is the one way to know that
a file is not in use *and* to keep it so for a moment. Holders of a mapping count: it keeps the open file alive.

A lease needs the file's owner or CAP_LEASE, and a file system that has them (tmpfs, ext4, xfs; not NFS or FUSE).
Elsewhere the descriptors in /proc are looked through, as far as we may.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from ckptd.domain.errors import Busy
from ckptd.tiers.beneath import opened_at

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # O_NONBLOCK: a fifo must not hold us
_TAKEN = frozenset({errno.EAGAIN, errno.EBUSY})


class Certainty(StrEnum):
    """How it is known that nobody uses a file."""

    LEASE = "lease"  # the kernel said so, and held newcomers back
    SCAN = "scan"  # every process's descriptors were looked through, just before and just after
    PARTIAL_SCAN = "partial-scan"  # … those of processes that we may look into


class Use(StrEnum):
    """What a guard does not tolerate."""

    ANY = "any"
    WRITING = "writing"


def ignore_lease_signals() -> None:
    """To be called once, in the main thread. A broken lease is announced by a signal whose default is to end the
    process.

    Each lease asks for SIGURG instead, which is ignored by default; this is the second lock on that door.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def has_writer(path: str) -> bool | None:
    """Whether anybody has the regular file at `path` (a real path) open for writing. None: cannot tell, or there is no
    such file.
    """
    try:
        fd = os.open(path, _OPEN)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or not opened_at(fd, path):
            return None
        try:
            _take(fd, Use.WRITING)
        except OSError as error:
            return True if error.errno in _TAKEN else _scan(fd, Use.WRITING)[0] or None
        return False
    finally:
        os.close(fd)


class Guard:
    """Holds a file's users off while it is given another place."""

    def __init__(self, fd: int, certainty: Certainty) -> None:
        self._fd = fd
        self.certainty = certainty

    def check(self) -> None:
        """Raises Busy if anybody has opened the file for writing since, or waits to. Readers are let in."""
        if self.certainty is not Certainty.LEASE:
            if _scan(self._fd, Use.WRITING)[0]:
                raise _busy()
            return
        # F_GETLEASE says what is left of the lease after those who wait have broken it: nothing, if one wants to write.
        # Asking for a read lease then counts the writers that have not got as far as to break it.
        if fcntl.fcntl(self._fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK:
            raise _busy()
        try:
            _take(self._fd, Use.WRITING)
        except OSError as error:
            raise _busy() from error
        if fcntl.fcntl(self._fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
            raise _busy()


@contextmanager
def guarded(fd: int, use: Use) -> Iterator[Guard]:
    """Holds a lease on an open regular file. Raises Busy if it is in use in a way that `use` names."""
    try:
        _take(fd, use)
    except OSError as error:
        if error.errno in _TAKEN:
            raise _busy() from error
        in_use, all_seen = _scan(fd, use)
        if in_use:
            raise _busy() from error
        yield Guard(fd, Certainty.SCAN if all_seen else Certainty.PARTIAL_SCAN)
        return
    try:
        yield Guard(fd, Certainty.LEASE)
    finally:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _busy() -> Busy:
    return Busy("the file is open in another process", hint="it is tried again when the file is closed")


def _take(fd: int, use: Use) -> None:
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK if use is Use.ANY else fcntl.F_RDLCK)


def _scan(fd: int, use: Use) -> tuple[bool, bool]:
    """Looks for the file among the descriptors and mappings of all processes: (found in use, all could be seen)."""
    wanted = os.fstat(fd)
    all_seen = True
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            all_seen = False
            continue
        for name in names:
            if int(pid) == os.getpid() and int(name) == fd:
                continue
            if _uses(f"/proc/{pid}", name, wanted, use):
                return True, all_seen
        if _maps(f"/proc/{pid}/maps", wanted, use):
            return True, all_seen
    return False, all_seen


def _uses(process: str, name: str, wanted: os.stat_result, use: Use) -> bool:
    try:
        found = os.stat(f"{process}/fd/{name}")
        if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
            return False
        if use is Use.ANY:
            return True
        with open(f"{process}/fdinfo/{name}", encoding="ascii") as info:
            flags = next((line.split()[1] for line in info if line.startswith("flags:")), "0")
        return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False


def _maps(path: str, wanted: os.stat_result, use: Use) -> bool:
    device = f"{os.major(wanted.st_dev):02x}:{os.minor(wanted.st_dev):02x}"
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                _, permissions, _, found, inode, *_ = line.split(maxsplit=5)
                writes = permissions[1] == "w" and permissions[3] == "s"
                if found == device and int(inode) == wanted.st_ino and (use is Use.ANY or writes):
                    return True
    except OSError:
        pass
    return False
