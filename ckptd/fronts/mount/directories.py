"""OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, FSYNCDIR.

Offsets are those of the backing file system (tmpfs since Linux 6.6, ext4 and xfs give every entry one that stays): a listing goes
on correctly while names come and go, and after a restart of the server.
"""

from __future__ import annotations

import os
import stat as modes

from ckptd.fronts.mount import attributes, wire
from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.context import Context
from ckptd.fronts.mount.looking import Looking
from ckptd.fronts.mount.system import DirectoryReader

DT_UNKNOWN, DT_LNK = 0, 10
FIRST_HANDLE = 1 << 32
"""Handles of directories name nothing that has to outlive the server: one that it does not know is opened again."""
Entry = tuple[int, int, int, bytes]


class Stream:
    """`rest`: entries that were read and did not fit into the last answer, which go on at `offset`."""

    __slots__ = ("fd", "offset", "rest")

    def __init__(self, fd: int) -> None:
        self.fd, self.offset = fd, -1
        self.rest: list[Entry] = []


class Directories:
    def __init__(self, context: Context, looking: Looking) -> None:
        self._context = context
        self._tree = context.tree
        self._looking = looking
        self._streams: dict[int, Stream] = {}
        self._next = FIRST_HANDLE + int.from_bytes(os.urandom(3)) * (1 << 32)
        self._reader = DirectoryReader()

    def opendir(self, request: Request) -> bytes:
        handle = self._next
        self._next += 1
        self._streams[handle] = self._stream(request.nodeid)
        return wire.OPEN_OUT.pack(handle, 0, 0)

    def _stream(self, id: int) -> Stream:
        return Stream(os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._tree.directory(id)))

    def releasedir(self, request: Request) -> bytes:
        stream = self._streams.pop(wire.RELEASE_IN.unpack_from(request.body)[0], None)
        if stream is not None:
            os.close(stream.fd)
        return b""

    def fsyncdir(self, request: Request) -> bytes:
        os.fsync(self._opened(wire.FSYNC_IN.unpack_from(request.body)[0], request.nodeid).fd)
        self._context.wait_for_remote(self._tree.node(request.nodeid), directory=True)
        return b""

    def _opened(self, handle: int, id: int) -> Stream:
        stream = self._streams.get(handle)
        if stream is None:
            stream = self._streams[handle] = self._stream(id)
        return stream

    def readdir(self, request: Request) -> bytes:
        return self._read(request, plus=False)

    def readdirplus(self, request: Request) -> bytes:
        return self._read(request, plus=True)

    def _read(self, request: Request, *, plus: bool) -> bytes:
        handle, offset, size, _, _, _, _ = wire.READ_IN.unpack_from(request.body)
        stream = self._opened(handle, request.nodeid)
        answer = bytearray()
        entries = self._entries(stream, offset)
        stream.rest, stream.offset = [], -1
        for number, entry in enumerate(entries):
            at = len(answer) + wire.DIRENT.size + (wire.ENTRY_OUT.size if plus else 0)
            if at + (len(entry[3]) + 7 & ~7) > size:
                stream.rest, stream.offset = entries[number:], offset
                break
            offset = entry[1]
            if self._tree.visible(request.nodeid, entry[3]):
                self._add(answer, request, entry, plus=plus)
        return bytes(answer)

    def _entries(self, stream: Stream, offset: int) -> list[Entry]:
        if stream.rest and stream.offset == offset:
            return stream.rest
        return self._reader.read(stream.fd, offset)

    def _add(self, answer: bytearray, request: Request, entry: Entry, *, plus: bool) -> None:
        ino, offset, kind, name = entry
        given = attributes.NOTHING
        if name in {b".", b".."}:
            pass
        elif plus:
            try:
                node, stat, ino = self._looking.find(request.nodeid, name)
            except FileNotFoundError:
                return  # removed since it was read
            kind = modes.S_IFMT(stat.st_mode) >> 12
            self._context.nodes.give(node, request.unique)
            given = self._context.entry(node, stat, ino)
        elif kind in {DT_LNK, DT_UNKNOWN}:
            ino, kind = self._shown(request.nodeid, name, ino, kind)
        if plus:
            answer += given
        answer += wire.DIRENT.pack(ino, offset, len(name), kind)
        answer += name + bytes(-len(name) % 8)

    def _shown(self, id: int, name: bytes, ino: int, kind: int) -> tuple[int, int]:
        """Of a demoted file what its object is, of a cold one what it will be."""
        try:
            stat, _ = self._tree.look(self._tree.directory(id), name)
        except FileNotFoundError:
            return ino, kind
        return self._context.number(stat), modes.S_IFMT(stat.st_mode) >> 12
