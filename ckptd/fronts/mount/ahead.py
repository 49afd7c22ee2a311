"""The tier's memory is allocated ahead of its writers, by the server: a page of a tmpfs is charged to the control group that
touches it first, and with passthrough that is the job. A job with a memory limit would be killed for its own checkpoint.

What a file is expected to weigh (expected.py) is allocated from its opening on; that is also a reservation. One that grows beyond
it, or of which nothing is known, is kept ahead of: its size is looked at every few ms. What was too much is cut off at its last
close. Allocating costs 3 ms a GiB of huge pages (fallocate clears nothing), and the size that the job sees does not change.

Holes stay holes: a file is kept ahead of only while most of it is really there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

from ckptd.fronts.mount import system
from ckptd.fronts.mount.expected import Expected
from ckptd.fronts.mount.nodes import Node
from ckptd.fronts.mount.tree import Tree

KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE, <linux/falloc.h>
PAGE = 4096
LEAST = 1 << 20
"""Smaller files are not worth it."""
SMALLEST_STEP, LARGEST_STEP = 64 << 20, 256 << 20
"""A file that grows is kept ahead of by as much as it has, between these bounds. The larger one takes a ms, in which a writer
writes a twentieth of it; on pages of 4 KiB (fragmented memory) tens of ms."""
SOON_S, LATER_S = 0.002, 0.05
"""How often open files are looked at: while any grows or waits for its memory, and while none does."""
CALM_S = 0.5


class _Window:
    __slots__ = ("allocated", "path", "promised", "seen")

    def __init__(self, path: bytes, allocated: int, promised: int) -> None:
        self.path = path
        self.allocated = allocated
        """Bytes from the beginning of the file."""
        self.promised = promised
        """Bytes to allocate whatever the file does."""
        self.seen = 0

    @property
    def outstanding(self) -> int:
        return max(0, self.promised - self.allocated)


class Ahead:
    def __init__(self, tree: Tree, expected: Expected) -> None:
        self._tree = tree
        self._expected = expected
        self._windows: dict[Node, _Window] = {}
        self._due = 0.0
        self._calm_at = 0.0

    def size(self) -> int:
        """Bytes of the whole tier."""
        found = os.statvfs(self._tree.root_fd)
        return found.f_blocks * found.f_frsize

    def free(self) -> int:
        """Bytes of the tier that are neither used nor promised to a file that is open."""
        found = os.statvfs(self._tree.root_fd)
        return found.f_bavail * found.f_frsize - sum(window.outstanding for window in self._windows.values())

    def begin(self, node: Node, path: bytes, promised: int) -> None:
        """A file of the tier was opened for writing, and nobody had it open so. `promised`: bytes that were found free for it."""
        size = os.fstat(node.fd).st_size
        window = self._windows[node] = _Window(path, size, promised if promised >= LEAST else 0)
        if window.outstanding:
            self._allocate(node, window, min(promised, size + LARGEST_STEP))
        now = time.monotonic()
        self._calm_at = now + CALM_S
        self._due = min(self._due or now + SOON_S, now + SOON_S)

    def follows(self, node: Node) -> bool:
        return node in self._windows

    def truncated(self, node: Node, size: int) -> None:
        window = self._windows.get(node)
        if window is not None:
            window.allocated = min(window.allocated, size)

    def end(self, node: Node) -> None:
        """Before the last close of a file that was open for writing: nothing stays allocated beyond its end."""
        window = self._windows.pop(node, None)
        if node.dev != self._tree.home:
            return  # in another tier
        with contextlib.suppress(OSError):  # taken over from a server that was killed, and gone since
            fd = self._tree.opened(node, write=True)
            found = os.fstat(fd)
            if window is not None:
                self._expected.note(window.path, found.st_size)
            beyond = window is not None and window.allocated > found.st_size
            if beyond or found.st_blocks * 512 > -(-found.st_size // PAGE) * PAGE:
                os.ftruncate(fd, found.st_size)
                seconds, ns = divmod(found.st_mtime_ns, 1_000_000_000)
                system.futimens(fd, (0, system.UTIME_OMIT, seconds, ns))

    def timeout_ms(self) -> int | None:
        """When `look` wants to be called next."""
        if not self._windows:
            return None
        return max(0, int((self._due - time.monotonic()) * 1000) + 1)

    def look(self) -> None:
        now = time.monotonic()
        if not self._windows or now < self._due:
            return
        moving = [self._follow(node, window) for node, window in self._windows.items()]
        if any(moving):
            self._calm_at = now + CALM_S
        self._due = time.monotonic() + (SOON_S if now < self._calm_at else LATER_S)

    def _follow(self, node: Node, window: _Window) -> bool:
        """Whether it grows, or waits for what it was promised."""
        if node.fd < 0:
            return False
        found = os.fstat(node.fd)
        size, grown = found.st_size, found.st_size > window.seen
        window.seen = size
        if window.outstanding:
            self._allocate(node, window, min(window.promised, max(window.allocated, size) + LARGEST_STEP))
            return True
        if grown and size >= LEAST and found.st_blocks * 512 >= size // 2:
            step = min(max(size, SMALLEST_STEP), LARGEST_STEP)
            if size + step // 2 > window.allocated:
                self._allocate(node, window, size + min(step, max(self.free(), 0) // 8))
        return grown

    def _allocate(self, node: Node, window: _Window, up_to: int) -> None:
        start = window.allocated // PAGE * PAGE
        if up_to <= start:
            return
        try:
            system.fallocate(node.fd, KEEP_SIZE, start, up_to - start)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.ENOMEM, errno.EOPNOTSUPP, errno.EINTR}:
                raise
            if error.errno != errno.EINTR:
                window.promised = 0  # others were faster: the writer gets what there is
        else:
            window.allocated = up_to
