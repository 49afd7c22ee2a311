"""A private place beside a file, for the moment in which two things change their names.

It is a directory `.ckptd-<random>` next to the file that holds the other thing under the same name: any name fits, the
front ignores it, and what a killed daemon left there tells where it belongs (`recover`).

Identities are compared by inode, so whatever is compared is held open (O_PATH): file systems reuse inode numbers at
once.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ckptd.domain.errors import SourceChanged
from ckptd.tiers.rename import How, rename

PREFIX = ".ckptd-"
_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Beside:
    """The path (`name` in `parent`) and the private place (the same name in `private`)."""

    def __init__(self, parent: int, private: int, name: str, held: ExitStack) -> None:
        self._parent = parent
        self._private = private
        self._name = name
        self._held = held
        self._ours: os.stat_result | None = None

    def make_link(self, target: str, uid: int, gid: int) -> None:
        """A symbolic link in the private place; its owner is set where we may (as root)."""
        os.symlink(target, self._name, dir_fd=self._private)
        if os.geteuid() == 0:  # fs.protected_symlinks: in a sticky directory only its owner may follow a link
            os.chown(self._name, uid, gid, dir_fd=self._private, follow_symlinks=False)

    def bring(self, path: str) -> None:
        """Moves a file of ours into the private place."""
        rename(path, self._name, How.NOREPLACE, target_dir=self._private)

    def send_back(self, path: str) -> None:
        """Undoes `bring`, if it is still there."""
        with suppress(FileNotFoundError):
            rename(self._name, path, How.NOREPLACE, source_dir=self._private)

    def link_to(self, target: str) -> os.stat_result:
        """What is at the path, if it is a link to `target`; else SourceChanged."""
        try:
            found = self._hold(self._parent)
            if os.readlink(self._name, dir_fd=self._parent) == target:
                return found
        except FileNotFoundError as error:
            raise SourceChanged(f"{self._name!r} is not there any more") from error
        except OSError as error:
            if error.errno != errno.EINVAL:  # not a link
                raise
        raise SourceChanged(f"{self._name!r} is not our link any more")

    def exchange(self, *, expected: os.stat_result) -> None:
        """The path gets what is in the private place, which gets what was at the path: `expected`, else SourceChanged
        and undone.
        """
        self._ours = self._hold(self._private)
        self._expect(expected)
        try:
            self._swap()
        except FileNotFoundError as error:
            raise SourceChanged(f"{self._name!r} is not there any more") from error
        if not _same(self._hold(self._private), expected):
            self.give_back()
            raise SourceChanged(f"{self._name!r} was replaced")

    def give_back(self) -> None:
        """Undoes an exchange; then the private place holds what we had put at the path, or nothing.

        Meanwhile the job may have renamed something over the path, and may again. What comes out of the path is newer
        than what we put in, unless it is what we put there before; so we repeat until that comes out.
        """
        assert self._ours is not None
        last = self._ours
        while True:
            put = self._hold(self._private)
            try:
                self._swap()
            except FileNotFoundError:
                self.discard()  # the job removed the file while it was our link
                return
            if _same(self._hold(self._private), last):
                if last is not self._ours:
                    self.discard()
                return
            last = put

    def take(self, *, expected: os.stat_result) -> None:
        """Moves what is at the path into the private place; SourceChanged and undone if it is not `expected`."""
        self._expect(expected)
        try:
            rename(self._name, self._name, How.NOREPLACE, source_dir=self._parent, target_dir=self._private)
        except FileNotFoundError as error:
            raise SourceChanged(f"{self._name!r} is not there any more") from error
        if not _same(self._hold(self._private), expected):
            self.put_back()
            raise SourceChanged(f"{self._name!r} was replaced")

    def put(self) -> None:
        """Moves what is in the private place to the path. Raises FileExistsError."""
        rename(self._name, self._name, How.NOREPLACE, source_dir=self._private, target_dir=self._parent)

    def put_back(self) -> None:
        """Undoes `take`; if the job has made a new file meanwhile, that one replaces the old."""
        try:
            self.put()
        except FileExistsError:
            self.discard()

    def discard(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._private)

    def _expect(self, expected: os.stat_result) -> None:
        """The kernel cannot compare and exchange. Looking just before keeps what a job that replaces the file at this
        very moment can notice (the older content, until it is undone) to microseconds.
        """
        with suppress(FileNotFoundError):
            if _same(os.stat(self._name, dir_fd=self._parent, follow_symlinks=False), expected):
                return
        raise SourceChanged(f"{self._name!r} was replaced")

    def _swap(self) -> None:
        rename(self._name, self._name, How.EXCHANGE, source_dir=self._private, target_dir=self._parent)

    def _hold(self, directory: int) -> os.stat_result:
        fd = os.open(self._name, _HOLD, dir_fd=directory)
        self._held.callback(os.close, fd)
        return os.fstat(fd)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


@contextmanager
def private_place(parent: int, name: str) -> Iterator[Beside]:
    """Makes the private directory in `parent`; removed at the end, if it is empty."""
    private = PREFIX + secrets.token_hex(6)
    os.mkdir(private, mode=0o700, dir_fd=parent)
    with ExitStack() as held:
        held.callback(_remove, parent, private)
        fd = os.open(private, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        held.callback(os.close, fd)
        yield Beside(parent, fd, name, held)


def _remove(parent: int, private: str) -> None:
    with suppress(OSError):  # what is still in it, `recover` deals with
        os.rmdir(private, dir_fd=parent)
