"""Watching and listing a directory tree, so that nothing that exists or appears is missed.

Each directory is watched *before* it is listed: what appears in between is in the listing, in an event, or in both.
Watch and listing go through one descriptor, opened without following symbolic links: a directory that is renamed or
replaced meanwhile cannot make us watch one and list another, and a planted link leads nowhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ckptd.fronts.watch.tree import Identity, Node, Tree

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_DEPTH = 100
"""Directories held open at once; what lies deeper is opened from the root again (descriptors are limited to 1024)."""
_VANISHED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})


@dataclass(frozen=True, slots=True)
class Directory:
    path: str
    wd: int | None
    """None: it could not be watched."""
    identity: Identity


@dataclass(frozen=True, slots=True)
class Found:
    directories: tuple[Directory, ...]
    """From the top down."""
    files: tuple[str, ...]
    """Regular files and symbolic links."""
    special: tuple[str, ...]
    """Fifos, sockets, devices."""
    blind: tuple[tuple[str, int], ...]
    """Directories that could not be watched or read, with the errno."""
    partial: bool
    """Something vanished or moved while it was walked; events about that are on their way."""
    unread: bool = False
    """Some directory could not be listed: there may be files that are not in `files`."""


@dataclass(slots=True)
class _Log:
    directories: list[Directory] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    blind: list[tuple[str, int]] = field(default_factory=list)
    deeper: list[str] = field(default_factory=list)
    partial: bool = False
    unread: bool = False

    def failed(self, path: str, error: OSError, *, watching: bool = False) -> None:
        """`watching`: only the watch failed, the directory may be listed all the same."""
        if error.errno in _VANISHED:
            self.partial = True
        else:
            self.unread |= not watching
            self.blind.append((path, error.errno or errno.EIO))


class Walker:
    """`watch` takes a path that names a directory and returns its watch descriptor or raises OSError."""

    def __init__(self, root: str, watch: Callable[[bytes], int], ignored: str) -> None:
        self._root = root
        self._watch = watch
        self._ignored = ignored

    def walk(self, start: str, known: Tree | None = None) -> Found:
        """Walks from the relative path `start` ("" is the root). Directories above it must be those that `known` has:
        where another has taken the name, what the event spoke of is elsewhere by now. Raises OSError if the root is
        gone.
        """
        log = _Log()
        pending = [start]
        while pending:
            path = pending.pop()
            try:
                fd = self._open(path, known)
            except OSError as error:
                if not path:
                    raise
                log.failed(path, error)
                continue
            self._visit(fd, path, log, depth=0)
            pending.extend(log.deeper)
            log.deeper.clear()
        return Found(
            tuple(log.directories), tuple(log.files), tuple(log.special), tuple(log.blind),
            partial=log.partial, unread=log.unread,
        )  # fmt: skip

    def _open(self, path: str, known: Tree | None) -> int:
        fd = os.open(self._root, _OPEN & ~os.O_NOFOLLOW)
        node: Node | None = known.root if known else None
        try:
            for name in path.split("/") if path else ():
                if node is not None and node.identity not in (None, _identity(fd)):
                    raise NotADirectoryError(errno.ENOTDIR, "another directory has taken the name", path)
                below = os.open(name, _OPEN, dir_fd=fd)
                os.close(fd)
                fd = below
                node = node.children.get(name) if node else None
        except OSError:
            os.close(fd)
            raise
        return fd

    def _visit(self, fd: int, path: str, log: _Log, depth: int) -> None:
        """Watches, then lists, then goes down. Closes `fd`."""
        try:
            wd: int | None = None
            try:
                # The trailing dot makes the magic link a directory on the way, so that IN_DONT_FOLLOW is content.
                wd = self._watch(b"/proc/self/fd/%d/." % fd)
            except OSError as error:
                log.failed(path, error, watching=True)
            log.directories.append(Directory(path, wd, _identity(fd)))
            for name in self._list(fd, path, log):
                self._descend(fd, name, f"{path}/{name}" if path else name, log, depth)
        finally:
            os.close(fd)

    def _list(self, fd: int, path: str, log: _Log) -> Iterable[str]:
        below: list[str] = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.name.startswith(self._ignored):
                        continue
                    inside = f"{path}/{entry.name}" if path else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
                    elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                        log.files.append(inside)
                    elif _exists(fd, entry.name):
                        log.special.append(inside)
        except OSError as error:
            log.failed(path, error)
        return below

    def _descend(self, fd: int, name: str, path: str, log: _Log, depth: int) -> None:
        if depth >= _DEPTH:
            log.deeper.append(path)
            return
        try:
            below = os.open(name, _OPEN, dir_fd=fd)
        except OSError as error:
            log.failed(path, error)
            return
        self._visit(below, path, log, depth + 1)


def _identity(fd: int) -> Identity:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _exists(fd: int, name: str) -> bool:
    """Where the directory entry has no type, `is_file` is a stat that fails once the file is gone."""
    try:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode))
