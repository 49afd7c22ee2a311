"""Bytes into a file and back out of it: copied by the kernel where it can, and read back to prove what was written."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from awscrt.checksums import crc64nvme

from .base import Source
from .errors import ChecksumMismatch, NotSupported, ObjectChanged

STRETCH = 8 << 20
"""Bytes the kernel copies at a time: long enough to cost nothing, short enough to stop and to be paced."""
BLOCK = 1 << 20
"""Bytes read at a time where they pass through memory: the checksum then finds them in the CPU's cache."""

# What the kernel answers where two file systems, or this one, cannot be copied between: then the next way is tried.
_NOT_THIS_WAY = frozenset({
    errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ETXTBSY,
})  # fmt: skip


def copy_in(source: Source, target: int, offset: int) -> None:
    """Writes all of `source` at `offset` of descriptor `target`, whose file position must belong to the caller alone.

    Raises OSError, and ChecksumMismatch if the source ends before its length.
    """
    length = len(source)
    done = 0
    try:
        descriptor = source.fileno()
    except OSError:
        descriptor = -1
    ways: list[Callable[[int, int], int]] = []
    if descriptor >= 0:
        start = source.offset
        ways.append(lambda at, n: os.copy_file_range(descriptor, target, n, start + at, offset + at))
        ways.append(lambda at, n: _send_file(target, descriptor, offset + at, start + at, n))
    ways.append(lambda at, n: _write_from_memory(source, target, offset + at, at, n))
    while done < length:
        try:
            copied = ways[0](done, min(STRETCH, length - done))
        except OSError as error:
            if len(ways) == 1 or error.errno not in _NOT_THIS_WAY:
                raise
            copied = 0
        if copied == 0:
            # Some file systems (procfs-like, FUSE) answer 0 instead of an error: the last way alone can tell the end.
            if len(ways) == 1:
                raise ChecksumMismatch(f"the source ended after {done} of {length} bytes: it changed while it was sent")
            del ways[0]
            continue
        done += copied
        source.seek(done)


def copy_between(origin: int, target: int, offset: int, length: int, done: Callable[[int], object]) -> None:
    """The same bytes at the same place of another file of this file system, by `copy_file_range` alone: blocks are shared
    where it has reflinks (XFS, btrfs), copied by the server over NFS 4.2, and inside the kernel elsewhere.

    `done` gets how far it is, after each stretch; it may raise, to stop. Raises OSError; NotSupported where the kernel cannot
    copy here, ObjectChanged where the origin ends too early.
    """
    at = 0
    while at < length:
        try:
            copied = os.copy_file_range(origin, target, min(STRETCH, length - at), offset + at, offset + at)
        except OSError as error:
            if error.errno not in _NOT_THIS_WAY:
                raise
            raise NotSupported(f"this file system does not copy by itself: {error.strerror}") from error
        if copied == 0:
            raise ObjectChanged(f"the origin ended after {at} of {length} bytes")
        at += copied
        done(at)


def _send_file(target: int, source: int, at: int, start: int, length: int) -> int:
    os.lseek(target, at, os.SEEK_SET)
    return os.sendfile(target, source, start, length)


def _write_from_memory(source: Source, target: int, at: int, start: int, length: int) -> int:
    if source.tell() != start:
        source.seek(start)
    block = memoryview(source.read(min(BLOCK, length)))
    written = 0
    while written < len(block):
        written += os.pwrite(target, block[written:], at + written)
    return written


def checksum_back(descriptor: int, offset: int, length: int) -> int:
    """CRC-64/NVME of what is in the file now. Raises ChecksumMismatch if it is shorter than that."""
    buffer = memoryview(bytearray(min(BLOCK, max(length, 1))))
    crc, done = 0, 0
    while done < length:
        got = os.preadv(descriptor, [buffer[: min(BLOCK, length - done)]], offset + done)
        if got == 0:
            raise ChecksumMismatch(f"the file ends {length - done} bytes before what was written to it")
        crc = crc64nvme(buffer[:got], crc)
        done += got
    return int(crc)


def sync_directory(path: str) -> None:
    """Makes the names in a directory durable. Network file systems that cannot do it do it at once anyway."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
    finally:
        os.close(descriptor)


def make_directories(path: str, root: str) -> None:
    """Makes `path` below `root`, durably. Never makes the root itself: FileNotFoundError if it is gone (unmounted)."""
    if path == root:
        os.stat(root)
        return
    try:
        os.mkdir(path)
    except FileExistsError:
        # Perhaps not a directory: what is put inside it next says so.
        return
    except FileNotFoundError:
        make_directories(os.path.dirname(path), root)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
    sync_directory(os.path.dirname(path))
