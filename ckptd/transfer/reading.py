"""Reading a file that its owner may change under us, through one small buffer a thread.

Not through mmap: a job may truncate its file at any moment, and touching a mapped page behind the new end is SIGBUS,
which would kill the mover and all parts in it (on huge pages a child does it: `mapped`). `preadv` just returns less.
The buffer stays in the cache between the reading, the checksum and the socket; measured, it costs less than faulting a
mapping in.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat as stat_module
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from awscrt.checksums import combine_crc64nvme, crc64nvme

from ckptd.domain.model import Checksums, Stamp
from ckptd.tiers.beneath import opened_at
from ckptd.transfer.refusal import LOCAL, NO_ROOM, SOURCE_CHANGED, Refusal, Refused

BLOCK = 1 << 20

_thread = threading.local()


def block() -> memoryview:
    """The buffer of this thread (anonymous pages, outside the Python heap). Whoever reads next overwrites it."""
    view: memoryview | None = getattr(_thread, "block", None)
    if view is None:
        view = _thread.block = memoryview(mmap.mmap(-1, BLOCK))
    return view


def changed(path: str, what: str) -> NoReturn:
    raise Refused(Refusal(SOURCE_CHANGED, f"'{path}' {what} while it was read"))


def local_failure(error: OSError, path: str) -> Refused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(Refusal(NO_ROOM, f"no room for '{path}': {error.strerror}"))
    return Refused(Refusal(LOCAL, f"'{path}': {error.strerror or error}"))


def ensure_unchanged(descriptor: int, path: str, stamp: Stamp) -> None:
    now = os.fstat(descriptor)
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (stamp.inode, stamp.size, stamp.mtime_ns):
        changed(path, "changed")


@contextmanager
def opened(path: str, stamp: Stamp) -> Iterator[int]:
    """A descriptor of exactly the content that `stamp` names, checked at both ends of the block's run.

    `path` is a real path: one that leads through a link has been tampered with, and is a changed source.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            changed(path, "disappeared or was replaced")
        raise local_failure(error, path) from error
    try:
        if not stat_module.S_ISREG(os.fstat(descriptor).st_mode):
            changed(path, "is no regular file any more, or never was one,")
        if not opened_at(descriptor, path):
            changed(path, "was moved, or a directory above it was replaced by a link,")
        ensure_unchanged(descriptor, path, stamp)
        yield descriptor
        ensure_unchanged(descriptor, path, stamp)
    finally:
        os.close(descriptor)


def read_block(descriptor: int, path: str, offset: int, count: int) -> memoryview:
    """Between 1 and `count` bytes (at most BLOCK) in this thread's buffer; the end of the file is a changed source."""
    view = block()[: min(count, BLOCK)]
    try:
        got = os.preadv(descriptor, [view], offset)
    except OSError as error:
        raise local_failure(error, path) from error
    if not got:
        changed(path, "was truncated")
    return view[:got]


def checksum_of(descriptor: int, path: str, offset: int, length: int, check: Callable[[], None]) -> int:
    """CRC-64/NVME of a stretch; `check` may raise between blocks."""
    crc, end = 0, offset + length
    while offset < end:
        check()
        view = read_block(descriptor, path, offset, end - offset)
        crc = crc64nvme(view, crc)
        offset += len(view)
    return crc


def checksums_of(descriptor: int, path: str, size: int, part_size: int, check: Callable[[], None]) -> Checksums:
    parts = tuple(
        checksum_of(descriptor, path, offset, min(part_size, size - offset), check)
        for offset in range(0, size, part_size)
    )
    return Checksums(size, part_size, parts, joined(parts, size, part_size))


def joined(parts: Sequence[int], size: int, part_size: int) -> int:
    """The whole file's checksum from those of its parts."""
    whole = 0
    for index, crc in enumerate(parts):
        length = min(part_size, size - index * part_size)
        whole = combine_crc64nvme(whole, crc, length) if index else crc
    return int(whole)
