"""In which tier a new file begins: in memory if what it is expected to weigh fits, else in the tier below, where the kernel
moves its bytes too. Its name is a link to an object there then, as that of a demoted file is.

A file cannot change its tier while it is written (the kernel reads and writes the one that was named at its opening). So this is
the moment to see that it will have room; before that it is waited for a little: the daemon may be moving older files away.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat as modes

from ckptd.fronts.mount.ahead import Ahead
from ckptd.fronts.mount.expected import Expected
from ckptd.fronts.mount.tree import Tree
from ckptd.tiers.attributes import write_origin
from ckptd.tiers.spilled import FIRST

MAKE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
UNKNOWN_SHARE = 16
"""A file of which nothing is known begins in memory while a sixteenth of the tier is free."""
WAITS_S = 1.0
"""How long it is waited for room, if the daemon is there to make it. Moving older files away takes some 100 ms a GiB."""


class NeedsRoom(Exception):
    """The request is handled again, from the start, until there is room or `patience_s` has passed. Nothing was changed yet."""

    def __init__(self, size: int, patience_s: float) -> None:
        super().__init__(size)
        self.size, self.patience_s = size, patience_s


class Placing:
    def __init__(self, tree: Tree, ahead: Ahead, expected: Expected) -> None:
        self._tree = tree
        self._ahead = ahead
        self._expected = expected
        self.spilled = 0

    def room_for(self, path: bytes, *, patient: bool) -> int | None:
        """Bytes to promise the new file; None if it is not to begin in memory. Raises NeedsRoom while it may wait for that."""
        expected = self._expected.of(path)
        free = self._ahead.free()
        if expected is None:
            return 0 if free * UNKNOWN_SHARE >= self._ahead.size() else None
        if expected <= free:
            return expected
        if patient and expected <= self._ahead.size():
            raise NeedsRoom(expected, WAITS_S)
        return None

    def more_for(self, path: bytes, fd: int) -> int:
        """Bytes to promise a file that is written anew, beside those that it has: 0 where they are not free."""
        expected = self._expected.of(path) or 0
        return expected if expected - os.fstat(fd).st_blocks * 512 <= self._ahead.free() else 0

    def make_below(self, dir_fd: int, name: bytes, mode: int, path: bytes) -> int | None:
        """Makes an empty file in the tier below, and our link to it. None: there is no such tier, or it has no room.

        Returns it open for writing, to be closed when the caller's own has been opened: whoever sees the link must never find a
        file that nobody writes, which would be a whole one. Raises FileExistsError for a name that is taken.
        """
        objects = self._tree.objects
        if objects is None:
            return None
        found = os.statvfs(objects)
        if found.f_bavail * found.f_frsize < (self._expected.of(path) or 0):
            return None
        target = objects + b"%d" % (FIRST + secrets.randbelow(FIRST))
        fd = os.open(target, MAKE, mode)
        try:
            above = os.fstat(dir_fd)
            if above.st_mode & modes.S_ISGID:  # what is made in it gets its group (inode(7))
                os.chown(target, -1, above.st_gid)
            write_origin(os.fsdecode(target), os.fsdecode(path))
            os.symlink(target, name, dir_fd=dir_fd)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(target)
            raise
        self.spilled += 1
        return fd
