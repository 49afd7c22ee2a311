"""Tier → tier: the kernel moves the bytes, holes stay holes, and what was written is read back."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress

from ckptd.domain.model import Checksums
from ckptd.transfer import calls
from ckptd.transfer.reading import changed, checksums_of, local_failure, opened
from ckptd.transfer.refusal import CORRUPT, Refusal, Refused
from ckptd.transfer.task import Task

CHUNK = 16 << 20
"""Bytes the kernel copies between two looks at the cancel token."""
_NOT_HERE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""copy_file_range(2): not between (or not on) these file systems; sendfile(2) does it."""


def checksum(call: calls.Sum, task: Task) -> Checksums:
    with opened(call.path, call.stamp) as source:
        return checksums_of(source, call.path, call.stamp.size, call.part_size, task.check)


def copy(call: calls.Copy, task: Task) -> Checksums:
    """Leaves no target behind when it fails. A target that exists already is an error: it is somebody's."""
    try:
        target = os.open(call.target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise local_failure(error, call.target) from error
    try:
        with opened(call.source, call.stamp) as source:
            _transfer(source, target, call, task)
            return _compared(source, target, call, task)
    except BaseException:
        with suppress(OSError):
            os.unlink(call.target)
        raise
    finally:
        os.close(target)


def _transfer(source: int, target: int, call: calls.Copy, task: Task) -> None:
    size = call.stamp.size
    try:
        os.ftruncate(target, size)
        for offset, length in list(_extents(source, size)):
            os.posix_fallocate(target, offset, length)
        mover = _Kernel(source, target)
        at = 0
        for offset, length in _extents(source, size):
            task.count(offset - at)
            at = offset
            while at < offset + length:
                task.check()
                moved = mover.copy(at, min(CHUNK, offset + length - at))
                if not moved:
                    changed(call.source, "was truncated")
                at += moved
                task.count(moved)
        task.count(size - at)
        os.fsync(target)
    except OSError as error:
        raise local_failure(error, call.target) from error


class _Kernel:
    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target
        self._ranges = True

    def copy(self, offset: int, count: int) -> int:
        if self._ranges:
            try:
                return os.copy_file_range(self._source, self._target, count, offset, offset)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                self._ranges = False
        os.lseek(self._target, offset, os.SEEK_SET)
        return os.sendfile(self._target, self._source, offset, count)


def _extents(source: int, size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of the stretches that hold data; a file system without holes gives one."""
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        if start >= end:
            return
        yield start, end - start
        at = end


def _compared(source: int, target: int, call: calls.Copy, task: Task) -> Checksums:
    """Reads the copy back: from its disk where it has one, since the pages just written are dropped first."""
    size = call.stamp.size
    os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)
    part_size = call.expect.part_size if call.expect else call.part_size
    written = checksums_of(target, call.target, size, part_size, task.check)
    os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)
    if call.expect and written == call.expect:
        return written
    original = checksums_of(source, call.source, size, part_size, task.check)
    if original != written:
        raise Refused(Refusal(CORRUPT, f"the copy '{call.target}' came out different from '{call.source}'"))
    if call.expect:
        raise Refused(Refusal(CORRUPT, f"'{call.source}' does not hold the bytes its checksums promise"))
    return written
