"""UNLINK, RMDIR, RENAME, RENAME2: what takes names away."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes

from ckptd.fronts.mount import system, wire
from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.context import Context
from ckptd.fronts.mount.making import allow, inode
from ckptd.fronts.mount.nodes import Node
from ckptd.fronts.mount.outcomes import Names, happened


class Removing:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._tree = context.tree
        self._nodes = context.nodes
        self._outcomes = context.outcomes

    def unlink(self, request: Request) -> bytes:
        name = request.name()
        allow(self._tree, request.nodeid, name)
        dir_fd = self._tree.directory(request.nodeid)
        if self._gone_before(request, dir_fd, name):
            return b""
        stat = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if modes.S_ISDIR(stat.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a directory")
        node = self._node(stat, request.nodeid, name)
        self._whole(node)
        self._outcomes.begin(request.op, request.unique, Names(source=stat.st_ino))
        self._before_loss(node, request.nodeid, dir_fd, name)
        os.unlink(name, dir_fd=dir_fd)
        self._after_loss(node, stat)
        return b""

    def rmdir(self, request: Request) -> bytes:
        name = request.name()
        allow(self._tree, request.nodeid, name)
        dir_fd = self._tree.directory(request.nodeid)
        if self._gone_before(request, dir_fd, name):
            return b""
        stat = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        node = self._nodes.by_identity.get((stat.st_ino, stat.st_dev))
        self._outcomes.begin(request.op, request.unique, Names(source=stat.st_ino))
        if node is not None:
            self._tree.directory(node.id)  # whoever is in it can go on asking for it
        os.rmdir(name, dir_fd=dir_fd)
        if node is not None:
            self._nodes.lose(node)
        return b""

    def _gone_before(self, request: Request, dir_fd: int, name: bytes) -> bool:
        before = self._outcomes.begun(request.unique) if request.resent else None
        return before is not None and happened(request.op, before, Names(source=inode(dir_fd, name)))

    def _node(self, stat: os.stat_result, parent: int, name: bytes) -> Node | None:
        """The node of what was found at a name."""
        node = self._nodes.by_identity.get((stat.st_ino, stat.st_dev))
        if node is None and (node := self._nodes.reading(parent, name)) is not None:
            self._context.settle(node)
        return node

    def _whole(self, node: Node | None) -> None:
        """A file that somebody reads while it is being fetched loses its name when it is here."""
        if node is not None and node.opens:
            self._context.need(node)

    def _before_loss(self, node: Node | None, parent: int, dir_fd: int, name: bytes) -> None:
        if node is not None and node.opens and node.name == name and node.parent == parent:
            self._tree.keep(node, dir_fd, name)

    def _after_loss(self, node: Node | None, stat: os.stat_result) -> None:
        if node is not None and stat.st_nlink == 1 and not node.opens:
            self._nodes.lose(node)

    def rename(self, request: Request) -> bytes:
        return self._rename(request, wire.RENAME_IN.unpack_from(request.body)[0], 0, wire.RENAME_IN.size)

    def rename2(self, request: Request) -> bytes:
        parent, flags, _ = wire.RENAME2_IN.unpack_from(request.body)
        if flags & ~(system.RENAME_NOREPLACE | system.RENAME_EXCHANGE):
            raise OSError(errno.EINVAL, "no such way to rename")
        return self._rename(request, parent, flags, wire.RENAME2_IN.size)

    def _rename(self, request: Request, new_parent: int, flags: int, at: int) -> bytes:
        source, target, _ = request.names(at)
        allow(self._tree, request.nodeid, source)
        allow(self._tree, new_parent, target)
        source_fd, target_fd = self._tree.directory(request.nodeid), self._tree.directory(new_parent)
        exchange = bool(flags & system.RENAME_EXCHANGE)
        before = self._outcomes.begun(request.unique) if request.resent else None
        if before is not None:
            now = Names(inode(source_fd, source), inode(target_fd, target))
            if happened(request.op, before, now, exchange=exchange):
                self._outcomes.begin(request.op, request.unique, before)
                self._moved(target_fd, new_parent, target)
                if exchange:
                    self._moved(source_fd, request.nodeid, source)
                return b""
        moved = self._standing(source_fd, request.nodeid, source)
        if moved is None:
            raise FileNotFoundError(errno.ENOENT, "nothing there")
        if self._tree.holds_cold(source_fd, source) or (exchange and self._tree.holds_cold(target_fd, target)):
            # The remote has it by its name. Whoever wants it under another one copies it (mv does), which fetches it.
            raise OSError(errno.EXDEV, "only in the remote")
        over = self._standing(target_fd, new_parent, target)
        if over is not None:
            self._whole(over[1])
        names = Names(moved[0].st_ino, 0 if over is None else over[0].st_ino)
        self._outcomes.begin(request.op, request.unique, names)
        if over is not None and not exchange and names.source != names.target and flags == 0:
            self._before_loss(over[1], new_parent, target_fd, target)
        system.renameat2(source_fd, source, target_fd, target, flags)
        if names.source == names.target:
            return b""  # two names of one file, and both stay
        self._move(moved[1], request.nodeid, source, new_parent, target)
        if over is not None:
            if exchange:
                self._move(over[1], new_parent, target, request.nodeid, source)
            elif modes.S_ISDIR(over[0].st_mode):
                if over[1] is not None:
                    self._nodes.lose(over[1])
            else:
                self._after_loss(over[1], over[0])
        return b""

    def _standing(self, dir_fd: int, parent: int, name: bytes) -> tuple[os.stat_result, Node | None] | None:
        """What stands at a name itself, and the node of what it shows (of a demoted file the object's)."""
        try:
            stat = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        shown = stat
        if modes.S_ISLNK(stat.st_mode):
            with contextlib.suppress(FileNotFoundError):
                shown, _ = self._tree.look(dir_fd, name)
        return stat, self._node(shown, parent, name)

    def _move(self, node: Node | None, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        """Follows the name by which a node is known. Directories have one name only, so theirs is always that."""
        if node is not None and node.name == name and node.parent == parent:
            self._nodes.rename(node, new_parent, new_name)

    def _moved(self, dir_fd: int, parent: int, name: bytes) -> None:
        """The server that renamed it was killed before it, or while it, noted the new name."""
        found = self._standing(dir_fd, parent, name)
        if found is not None and found[1] is not None:
            self._nodes.rename(found[1], parent, name)
