"""Reaching into a directory that a job writes, without following the links it may plant.

The daemon may be root. A path like `run/step/file` is therefore opened component by component, relative to the volume's
root; a symbolic link where a directory should be is refused. What is opened stays what it is, however the job renames.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from ckptd.domain.access import Owned
from ckptd.domain.errors import Conflict

_DIRECTORY_BITS = 0o3777  # set-group-id, which hands the group down, and sticky; never set-user-id
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def parent_of(
    root: str, relative: str, *, make: bool = False, owner: tuple[int, int] | None = None
) -> Iterator[tuple[int, str]]:
    """Opens the directory that holds `relative` below `root`: yields its descriptor and the last name.

    `make` creates directories that are missing: mode 0755, and where we are root owned like the one above them; the first
    (a run's) by `owner`, a user and a group: its job goes on writing there. Raises
    FileNotFoundError, or Conflict where a link or a file stands in the way.
    """
    *above, name = relative.split("/")
    if not name or name in {".", ".."} or ".." in above or relative.startswith("/"):
        raise ValueError(f"not a relative path of a file: {relative!r}")
    fd = os.open(root, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        for depth, step in enumerate(above):
            below = _enter(fd, step, relative, make=make, owner=None if depth else owner)
            os.close(fd)
            fd = below
        yield fd, name
    finally:
        os.close(fd)


def directories_of(paths: Iterable[str]) -> list[str]:
    """All that the relative paths lie in, below the root; each before those in it."""
    found: set[str] = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return sorted(found)


def make_directories(root: str, wanted: Mapping[str, Owned]) -> None:
    """Makes those of the relative paths that are missing, with owner and mode (as root), each before those in it.

    Raises Conflict where a link or a file is in the way; and as root where a directory that is there belongs to neither its
    owner nor root: what is put into it would be somebody else's to read and to replace.
    """
    for path in sorted(wanted):
        with parent_of(root, path) as (parent, name):
            _make_one(parent, name, path, wanted[path])


def _make_one(parent: int, name: str, path: str, its: Owned) -> None:
    made = True
    try:
        os.mkdir(name, mode=0o700, dir_fd=parent)
    except FileExistsError:
        made = False
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise _in_the_way(path, name) from error
    try:
        if os.geteuid() != 0:
            if made:
                os.fchmod(fd, its.mode & _DIRECTORY_BITS | 0o700)
            return
        if made:
            _require_own(fd, path)
        elif (uid := os.fstat(fd).st_uid) not in (0, its.uid):
            raise Conflict(
                f"{path!r} belongs to user {uid}, what is to be put there to user {its.uid}",
                hint=f"whoever made the directory {path} renames or removes it",
            )
        if made:
            os.fchown(fd, its.uid, its.gid)
            os.fchmod(fd, its.mode & _DIRECTORY_BITS)
    finally:
        os.close(fd)


def unlink_link(root: str, relative: str, target: str) -> None:
    """Removes the link to `target` at the path, if that is what is there."""
    with (
        suppress(FileNotFoundError, Conflict),
        parent_of(root, relative) as (parent, name),
    ):
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode) and os.readlink(name, dir_fd=parent) == target:
            os.unlink(name, dir_fd=parent)


def opened_at(fd: int, path: str) -> bool:
    """Whether what was opened by `path` (a real path) lies there: no directory on the way was a link.

    O_NOFOLLOW looks at the last component only. False as well for what was renamed or removed since.
    """
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == path
    except OSError:
        return False


def _enter(fd: int, name: str, relative: str, *, make: bool, owner: tuple[int, int] | None) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=fd)
    except FileNotFoundError:
        if not make:
            raise
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise _in_the_way(relative, name) from error
        raise
    made = True
    try:
        os.mkdir(name, mode=0o700, dir_fd=fd)
    except FileExistsError:
        made = False  # the job was quicker
    try:
        below = os.open(name, _DIRECTORY, dir_fd=fd)
    except OSError as error:
        raise _in_the_way(relative, name) from error
    if made:
        above = os.fstat(fd)
        if os.geteuid() == 0:
            try:
                _require_own(below, relative)
            except Conflict:
                os.close(below)
                raise
            os.fchown(below, *(owner or (above.st_uid, above.st_gid)))
        os.fchmod(below, 0o755)
    return below


def _require_own(fd: int, path: str) -> None:
    """What root has just made is root's and empty; anything else has taken its place since. Raises Conflict."""
    if os.fstat(fd).st_uid != 0 or os.listdir(fd):
        raise Conflict(
            f"another directory has taken the place of the one that was made for {path!r}", hint="it is tried again"
        )


def _in_the_way(relative: str, name: str) -> Conflict:
    return Conflict(
        f"cannot reach {relative!r}: {name!r} is a link or a file", hint="a directory of that name is needed there"
    )
