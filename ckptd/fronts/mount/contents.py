"""READ and WRITE of files that the kernel does not read and write by itself; FSYNC, FALLOCATE, LSEEK, COPY_FILE_RANGE of all."""

from __future__ import annotations

import errno
import os

from ckptd.fronts.mount import system, wire
from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.context import Context, Fetching
from ckptd.fronts.mount.nodes import COLD, Node
from ckptd.fronts.mount.placing import NeedsRoom
from ckptd.fronts.mount.setting import Setting

MOST_COPIED = 64 << 20
"""Bytes a COPY_FILE_RANGE: nobody else is served meanwhile (about 10 ms), and callers go on after a short count."""

WRITES_WAIT_S = 30.0
"""How long a write that goes through the server waits for room, before it fails with ENOSPC."""


class Contents:
    def __init__(self, context: Context, setting: Setting, max_write: int) -> None:
        self._context = context
        self._tree = context.tree
        self._setting = setting
        self._buffer = memoryview(bytearray(max_write))

    def read(self, request: Request) -> memoryview:
        _, offset, size, _, _, _, _ = wire.READ_IN.unpack_from(request.body)
        into = self._buffer[:size]
        node = self._tree.node(request.nodeid)
        fd = self._cold(node, offset, size) if node.flags & COLD else self._tree.opened(node)
        return into[: os.preadv(fd, [into], offset)]

    def _cold(self, node: Node, offset: int, size: int) -> int:
        """Of a file that is still being fetched. Raises Fetching until the bytes that are wanted are here."""
        if self._context.settle(node):
            return self._tree.opened(node)
        path = self._tree.path(node)
        stream = self._context.streams.get(path)
        if stream is None or not stream.has(offset, min(size, self._tree.status(node).st_size - offset)):
            raise Fetching(path)
        return stream.fd

    def write(self, request: Request) -> bytes:
        """At an offset that the kernel has determined, also for O_APPEND: doing it twice is doing it once."""
        _, offset, size, flags, _, _, _ = wire.WRITE_IN.unpack_from(request.body)
        if flags & wire.WRITE_KILL_SUIDGID:
            self._setting.kill_privileges(self._tree.node(request.nodeid))
        data = request.body[wire.WRITE_IN.size : wire.WRITE_IN.size + size]
        try:
            return wire.WRITE_OUT.pack(os.pwritev(self._fd(request.nodeid, write=True), [data], offset), 0)
        except OSError as error:
            if error.errno == errno.ENOSPC and self._context.patient:
                raise NeedsRoom(size, WRITES_WAIT_S) from None
            raise

    def fsync(self, request: Request) -> bytes:
        _, flags, _ = wire.FSYNC_IN.unpack_from(request.body)
        fd = self._fd(request.nodeid)
        (os.fdatasync if flags & wire.FSYNC_FDATASYNC else os.fsync)(fd)
        self._context.wait_for_remote(self._tree.node(request.nodeid))
        return b""

    def fallocate(self, request: Request) -> bytes:
        _, offset, length, mode, _ = wire.FALLOCATE_IN.unpack_from(request.body)
        # Privileges to go (file_modified() in the kernel's fuse_file_fallocate) came as a SETATTR before this.
        system.fallocate(self._fd(request.nodeid, write=True), mode, offset, length)
        return b""

    def lseek(self, request: Request) -> bytes:
        _, offset, whence, _ = wire.LSEEK_IN.unpack_from(request.body)
        if whence not in {os.SEEK_DATA, os.SEEK_HOLE}:
            raise OSError(errno.EINVAL, "the kernel knows the others")
        return wire.LSEEK_OUT.pack(os.lseek(self._fd(request.nodeid), offset, whence))

    def copy_file_range(self, request: Request) -> bytes:
        _, off_in, nodeid_out, _, off_out, length, _ = wire.COPY_FILE_RANGE_IN.unpack_from(request.body)
        source, target = self._fd(request.nodeid), self._fd(nodeid_out, write=True)
        return wire.WRITE_OUT.pack(os.copy_file_range(source, target, min(length, MOST_COPIED), off_in, off_out), 0)

    def _fd(self, id: int, *, write: bool = False) -> int:
        node = self._tree.node(id)
        if node.flags & COLD:
            self._context.need(node)
        return self._tree.opened(node, write=write)
