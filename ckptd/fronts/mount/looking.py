"""LOOKUP, FORGET, GETATTR, READLINK, STATFS: what changes nothing."""

from __future__ import annotations

import errno
import os
import stat as modes

from ckptd.fronts.mount import wire
from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.context import Context
from ckptd.fronts.mount.nodes import COLD, Node


class Looking:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._nodes = context.nodes
        self._tree = context.tree

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
        return self._context.entry(node, stat, ino)

    def find(self, parent: int, name: bytes) -> tuple[Node, os.stat_result, int]:
        """The node of what a name shows, its stat, and its inode number as the kernel is told."""
        stat, target = self._tree.look(self._tree.directory(parent), name)
        node = self._nodes.of(stat, parent, name, directory=modes.S_ISDIR(stat.st_mode))
        if target is not None or node.target is not None or node.flags & COLD:
            self._nodes.points(node, target)
        return node, stat, self._context.number(stat)

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
