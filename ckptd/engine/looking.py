"""Looking at a path of a volume: what lies there now, as the catalog will record it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from ckptd.catalog import CopyRow, FileRow
from ckptd.catalog.files import NewContent
from ckptd.domain.model import Attributes, Place, Stamp
from ckptd.engine.volume import Volume
from ckptd.layouts import POINTERS, locate
from ckptd.layouts.inspect import defect_of, requirements_of
from ckptd.layouts.pointers import POINTER_LIMIT, pointed_step
from ckptd.layouts.requirements import reads_for
from ckptd.tiers.beneath import opened_at
from ckptd.tiers.stub import is_stub

_QUICK = 256 * 1024
_log = structlog.get_logger(__name__)
_told: set[int] = set()
"""Error numbers that were logged: a directory that cannot be read fails for each of its files."""

CLOCK_TICK_S = 0.02
"""Kernels before 6.13 stamp files with the time of the last timer tick (4 to 10 ms): a file that was written twice within one
may keep its stamp, so an equal stamp this close to now proves nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lstat says. `target` is set for symbolic links."""

    stamp: Stamp
    attributes: Attributes
    target: str | None


def find(path: str) -> Found | None:
    """None for what is not there (a stub says so), for directories, fifos, sockets and devices, and where nothing can be told
    (see `gone`).
    """
    try:
        status = os.lstat(path)
        target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno is not None and error.errno not in _told:
            _told.add(error.errno)
            _log.warning(
                "looking.cannot_tell", path=os.fsencode(path)[:200].decode(errors="replace"), error=error.strerror
            )
        return None
    if not stat.S_ISREG(status.st_mode) if target is None else is_stub(target):
        return None
    attributes = Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns)
    return Found(Stamp(status.st_ino, status.st_size, status.st_mtime_ns), attributes, target)


def gone(path: str) -> bool:
    """Whether certainly nothing is there: a directory on the way that cannot be read proves nothing."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def content(
    volume: Volume, path: str, found: Found, at: float, *, closed: bool = True, began_at: float | None = None
) -> NewContent:
    """What to record for a file (or the job's own link) in its place."""
    where = locate(path)
    link = found.target
    size = 0 if link is not None else found.stamp.size
    copy = None
    defect = None
    if link is None and closed:
        location = volume.locate(path)
        copy = CopyRow(volume.home, 0, location, found.stamp.inode, found.stamp.mtime_ns)
        defect = inspect(location, path, size)
    return NewContent(
        path, where.run, where.step, link, closed, size, found.attributes, at, defect, copy,
        points_to=pointed(volume.locate(path), path, size) if closed and link is None else None,
        requires=required(volume.locate(path), path, size) if closed and link is None else frozenset(),
        began_at=began_at,
    )  # fmt: skip


def object_content(row: FileRow, found: Found, location: str, at: float) -> NewContent:
    """What to record for a demoted file that was written through its link."""
    copy = CopyRow(Place.NVME, 0, location, found.stamp.inode, found.stamp.mtime_ns)
    defect = inspect(location, row.path, found.stamp.size)
    return NewContent(
        row.path, row.run, row.step, None, True, found.stamp.size, found.attributes, at, defect, copy, row.id,
        pointed(location, row.path, found.stamp.size), required(location, row.path, found.stamp.size), at,
    )  # fmt: skip


def inspect(location: str, name: str, size: int) -> str | None:
    """Why the content cannot be whole; None where nothing is wrong (or it went away: then nothing is certain)."""
    with _opened(location) as descriptor:
        if descriptor is None:
            return None
        try:
            return defect_of(os.path.basename(name), size, lambda offset, length: os.pread(descriptor, length, offset))
        except OSError as error:
            return f"cannot be read: {error.strerror}"


def pointed(location: str, path: str, size: int) -> int | None:
    """The step that a pointer file names."""
    name = os.path.basename(path)
    if name not in POINTERS or size > POINTER_LIMIT:
        return None
    with _opened(location) as descriptor:
        try:
            return None if descriptor is None else pointed_step(name, os.pread(descriptor, POINTER_LIMIT, 0))
        except OSError:
            return None


def required(location: str, path: str, size: int) -> frozenset[str]:
    """The names of the files that an index names."""
    name = os.path.basename(path)
    if not reads_for(name):
        return frozenset()
    with _opened(location) as descriptor:
        try:
            if descriptor is None:
                return frozenset()
            return requirements_of(name, size, lambda offset, length: os.pread(descriptor, length, offset))
        except OSError:
            return frozenset()


def slow(path: str, found: Found) -> bool:
    """Whether `content` may take longer than 10 ms of CPU."""
    return found.target is None and min(reads_for(os.path.basename(path)), found.stamp.size) > _QUICK


@contextlib.contextmanager
def _opened(location: str) -> Iterator[int | None]:
    """None for what went away, or is reached through a link that stands in a directory's place: not the volume's file."""
    try:
        # O_NONBLOCK: a fifo that has taken the file's place since must not hold us.
        descriptor = os.open(location, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor if opened_at(descriptor, location) else None
    finally:
        os.close(descriptor)


def same(row: FileRow | None, volume: Volume, found: Found, now: float, *, certain: bool = False) -> bool:
    """Whether the row already says what was found. `certain`: equal stamps are proof enough (nobody just wrote)."""
    if row is None or not row.closed:
        return False
    if found.target is not None:
        return row.link == found.target
    copy = row.copy(volume.home)
    if copy is None or copy.location != volume.locate(row.path) or row.stamp(copy) != found.stamp:
        return False
    return certain or not 0 <= now - found.stamp.mtime_ns / 1e9 < CLOCK_TICK_S
