"""LOOKUP, FORGET, GETATTR, READLINK, STATFS: what changes nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes

from ckptd.fronts.mount import attributes, wire
from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.cold import ColdEntry, NothingCold
from ckptd.fronts.mount.context import Context, pretend
from ckptd.fronts.mount.nodes import Node


class Looking:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._nodes = context.nodes
        self._tree = context.tree
        self._nothing_cold = isinstance(context.cold, NothingCold)

    def lookup(self, request: Request) -> bytes:
        if request.resent:
            self._nodes.take_back(request.unique)
        return self.entry(request.unique, request.nodeid, request.name())

    def entry(self, unique: int, parent: int, name: bytes) -> bytes:
        """The answer that gives the kernel a node by its name."""
        if not self._tree.visible(parent, name):
            raise FileNotFoundError(errno.ENOENT, "private")
        node, stat, ino = self.find(parent, name)
        self._nodes.give(node, unique)
        return attributes.entry(node.id, stat, ino)

    def find(self, parent: int, name: bytes) -> tuple[Node, os.stat_result, int]:
        """The node of what a name shows, its stat, and its inode number as the kernel is told."""
        try:
            stat, target = self._tree.look(self._tree.directory(parent), name)
        except FileNotFoundError:
            if self._nothing_cold:
                raise
            return self._find_cold(parent, name)
        node = self._nodes.of(stat, parent, name, directory=modes.S_ISDIR(stat.st_mode))
        node.target = target
        return node, stat, self._context.number(stat)

    def _find_cold(self, parent: int, name: bytes) -> tuple[Node, os.stat_result, int]:
        above = self._tree.path(self._tree.node(parent))
        found = self._context.cold.lookup(above + b"/" + name if above else name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "neither here nor cold")
        if modes.S_ISDIR(found.mode):
            self._make_directory(parent, name, found)
            return self.find(parent, name)
        node = self._nodes.of_cold(parent, name)
        stat = pretend(found, node.id ^ attributes.ELSEWHERE)
        return node, stat, stat.st_ino

    def _make_directory(self, parent: int, name: bytes, entry: ColdEntry) -> None:
        """Directories are never cold: they weigh nothing, and everything else needs them to be there."""
        self._context.act_as(entry.uid, entry.gid)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, modes.S_IMODE(entry.mode), dir_fd=self._tree.directory(parent))

    def forget(self, request: Request) -> None:
        self._forget(request.nodeid, wire.FORGET_IN.unpack_from(request.body)[0])

    def batch_forget(self, request: Request) -> None:
        count = wire.BATCH_FORGET_IN.unpack_from(request.body)[0]
        at = wire.BATCH_FORGET_IN.size
        for node, lookups in wire.FORGET_ONE.iter_unpack(request.body[at : at + count * wire.FORGET_ONE.size]):
            self._forget(node, lookups)

    def _forget(self, id: int, count: int) -> None:
        node = self._nodes.forget(id, count)
        if node is not None:
            self._tree.close(node)

    def getattr(self, request: Request) -> bytes:
        return self._context.attributes(self._tree.node(request.nodeid))

    def readlink(self, request: Request) -> bytes:
        dir_fd, name = self._tree.place(self._tree.node(request.nodeid))
        return os.readlink(name, dir_fd=dir_fd)

    def statfs(self, _request: Request) -> bytes:
        found = os.statvfs(self._tree.root_fd)
        return wire.STATFS_OUT.pack(
            found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree, found.f_bsize, found.f_namemax,
            found.f_frsize, 0,
        )  # fmt: skip
