"""What a killed daemon left in the middle of a swap: puts each volume back into a state in which nothing is lost.

To be called before the front starts. A private place (`beside`) holds a file or a link under the name it has outside:

- a regular file, and nothing outside: it was being removed; it goes back.
- a regular file, and our link outside: it was being demoted. Its copy was verified before; if the file is younger than
  the copy, somebody wrote to it after all, and it goes back. Otherwise it is the old one.
- a regular file, and another outside: it was about to take the place of a link, or the job has replaced it: it goes.
- a link: it was never put in place, or has been replaced: it goes; unless nothing is outside, then it goes back.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress

import structlog

from ckptd.tiers.beside import PREFIX
from ckptd.tiers.rename import How, rename

log = structlog.get_logger()

_OURS = re.compile(re.escape(PREFIX) + "[0-9a-f]{12}")


def recover(root: str) -> list[str]:
    """Returns the relative paths of the files that were put back."""
    back: list[str] = []
    for above, directories, _, fd in os.fwalk(root, follow_symlinks=False):
        for private in [name for name in directories if _OURS.fullmatch(name)]:
            relative = os.path.relpath(above, root)
            names: list[str] = []
            try:
                if _is_ours(fd, private):
                    directories.remove(private)
                    _empty(fd, private, names)
            except OSError as error:  # one place that cannot be put right must not keep the daemon from all others
                log.warning("volume.unrecovered", path=os.path.join(above, private), error=str(error))
            back += [os.path.normpath(os.path.join(relative, name)) for name in names]
    return back


def _is_ours(parent: int, private: str) -> bool:
    """A job may use such a name too, for what it likes."""
    found = os.stat(private, dir_fd=parent, follow_symlinks=False)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _empty(parent: int, private: str, back: list[str]) -> None:
    """Adds to `back` what was put back."""
    inside = os.open(private, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        for name in os.listdir(inside):
            if _belongs_outside(parent, inside, name):
                back.append(name)
            else:
                os.unlink(name, dir_fd=inside)
    finally:
        os.close(inside)
    os.rmdir(private, dir_fd=parent)


def _belongs_outside(parent: int, inside: int, name: str) -> bool:
    """Puts it back if it does."""
    with suppress(FileExistsError):
        rename(name, name, How.NOREPLACE, source_dir=inside, target_dir=parent)
        return True
    mine = os.stat(name, dir_fd=inside, follow_symlinks=False)
    theirs = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISREG(mine.st_mode) or not stat.S_ISLNK(theirs.st_mode):
        return False
    try:
        copy = os.stat(name, dir_fd=parent)
    except OSError:
        copy = None  # the link leads nowhere
    if copy is not None and copy.st_size == mine.st_size and copy.st_mtime_ns >= mine.st_mtime_ns:
        return False
    rename(name, name, How.EXCHANGE, source_dir=inside, target_dir=parent)
    os.unlink(name, dir_fd=inside)
    return True
