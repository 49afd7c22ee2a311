"""The descriptor of /dev/fuse: one request a read, one answer a write, and messages that the kernel did not ask for."""

from __future__ import annotations

import errno
import mmap
import os

from ckptd.fronts.mount import wire

ROOM_FOR_HEADERS = 4096
"""A request is at most max_write bytes and its structures; the kernel refuses reads with less room (FUSE_BUFFER_HEADER_SIZE)."""


class Unmounted(Exception):
    """The mount is gone (umount, or the connection was aborted): there is nothing left to serve."""


class Request:
    """One request. There is one object, filled again and again: an object a request would cost as much as a dispatch."""

    __slots__ = ("body", "gid", "nodeid", "op", "pid", "resent", "uid", "unique")

    def __init__(self) -> None:
        self.op = self.unique = self.nodeid = self.uid = self.gid = self.pid = 0
        self.resent = False
        self.body = memoryview(b"")

    def fill(self, message: memoryview) -> None:
        """`unique` goes without the bit that tells a resent request, so that it names the request in the journal."""
        _, self.op, unique, self.nodeid, self.uid, self.gid, self.pid, _, _ = wire.IN_HEADER.unpack_from(message)
        self.resent = bool(unique & wire.UNIQUE_RESEND)
        self.unique = unique & ~wire.UNIQUE_RESEND
        self.body = message[wire.IN_HEADER.size :]

    def names(self, offset: int) -> list[bytes]:
        """The zero-terminated names that end the request."""
        return bytes(self.body[offset:]).split(b"\0")

    def name(self, offset: int = 0) -> bytes:
        return bytes(self.body[offset:-1])


class Channel:
    def __init__(self, fd: int, max_write: int) -> None:
        self.fd = fd
        # Touched once: a page that is not there yet when a kill arrives would fail the copy, and the request with EIO.
        self._buffer = mmap.mmap(-1, max_write + ROOM_FOR_HEADERS, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._buffer.write(bytes(len(self._buffer)))
        self._view = memoryview(self._buffer)
        self._into = [self._buffer]

    def read(self) -> memoryview | None:
        """The next request; None when there is none. It is valid until the next call. Raises Unmounted."""
        try:
            count = os.readv(self.fd, self._into)
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.EINTR, errno.ENOENT}:  # ENOENT: withdrawn while it was read
                return None
            if error.errno in {errno.ENODEV, errno.ECONNABORTED}:
                raise Unmounted from None
            raise
        return self._view[:count]

    def answer(self, request: Request, payload: bytes) -> None:
        unique = request.unique | (wire.UNIQUE_RESEND if request.resent else 0)
        self._write(wire.OUT_HEADER.pack(16 + len(payload), 0, unique) + payload)

    def answer_long(self, request: Request, payload: memoryview) -> None:
        """Without a copy, for the bytes of a READ."""
        unique = request.unique | (wire.UNIQUE_RESEND if request.resent else 0)
        self._write_all([wire.OUT_HEADER.pack(16 + len(payload), 0, unique), payload])

    def refuse(self, request: Request, error: int) -> None:
        unique = request.unique | (wire.UNIQUE_RESEND if request.resent else 0)
        self._write(wire.OUT_HEADER.pack(16, -error, unique))

    def resend(self) -> bool:
        """Asks for the requests that were given out and not answered. False where the kernel cannot (before Linux 6.9)."""
        try:
            os.write(self.fd, wire.OUT_HEADER.pack(16, wire.NOTIFY_RESEND, 0))
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        return True

    def forget_attributes(self, nodeid: int) -> None:
        """The kernel asks again for size and times (offset -1: pages stay)."""
        self._notify(wire.NOTIFY_INVAL_INODE, wire.INVAL_INODE_OUT.pack(nodeid, -1, 0))

    def forget_entry(self, parent: int, name: bytes) -> None:
        """The kernel looks the name up again. Blocks while somebody has the directory locked: never call it from the loop."""
        self._notify(wire.NOTIFY_INVAL_ENTRY, wire.INVAL_ENTRY_OUT.pack(parent, len(name), 0) + name + b"\0")

    def _notify(self, code: int, payload: bytes) -> None:
        try:
            os.write(self.fd, wire.OUT_HEADER.pack(16 + len(payload), code, 0) + payload)
        except OSError as error:
            if error.errno not in {
                errno.ENOENT,
                errno.ENOTDIR,
                errno.ENODEV,
                errno.ENOTCONN,
            }:  # nothing cached of that name
                raise

    def _write(self, message: bytes) -> None:
        try:
            os.write(self.fd, message)
        except OSError as error:
            _tolerate(error)

    def _write_all(self, parts: list[bytes | memoryview]) -> None:
        try:
            os.writev(self.fd, parts)
        except OSError as error:
            _tolerate(error)


def _tolerate(error: OSError) -> None:
    """ENOENT: whoever asked was killed, nobody waits for the answer. ENODEV: unmounted meanwhile; the next read says so."""
    if error.errno not in {errno.ENOENT, errno.ENODEV}:
        raise error
