"""What all operations share, and the one way in which a request waits."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from ckptd.fronts.mount import attributes, system
from ckptd.fronts.mount.cold import Cold, ColdEntry
from ckptd.fronts.mount.nodes import COLD, IS_KEPT, Node, Nodes
from ckptd.fronts.mount.outcomes import Outcomes
from ckptd.fronts.mount.passthrough import Passthrough
from ckptd.fronts.mount.tree import Tree


class Fetching(Exception):
    """The request needs a cold file: it is handled again, from the start, when the file is there. Nothing was changed yet."""

    def __init__(self, path: bytes) -> None:
        super().__init__(path)
        self.path = path


@dataclass
class Context:
    tree: Tree
    nodes: Nodes
    outcomes: Outcomes
    passthrough: Passthrough
    cold: Cold
    acting: tuple[int, int] = (0, 0)

    def act_as(self, uid: int, gid: int) -> None:
        """Whose the files made from here on are. Permissions were checked by the kernel (default_permissions)."""
        if self.acting != (uid, gid):
            self.acting = (uid, gid)
            system.act_as(uid, gid)

    def number(self, stat: os.stat_result) -> int:
        return attributes.number(stat, self.tree.home)

    def attributes(self, node: Node) -> bytes:
        """The answer to GETATTR and SETATTR."""
        if node.flags & COLD:
            stat = self.cold_stat(node)
            if stat is not None:
                return attributes.attributes(stat, stat.st_ino, stat.st_nlink)
        stat = self.tree.status(node)
        return attributes.attributes(stat, self.number(stat), stat.st_nlink - bool(node.flags & IS_KEPT))

    def cold_stat(self, node: Node) -> os.stat_result | None:
        """Of a cold node; None when its file has arrived, which the node knows from then on. Raises ESTALE."""
        found = self.cold.lookup(self.tree.path(node))
        if found is not None:
            return pretend(found, node.id ^ attributes.ELSEWHERE)
        self.settle(node)
        return None

    def settle(self, node: Node) -> None:
        """A cold node whose file may be in the tree now."""
        try:
            stat, target = self.tree.look(self.tree.directory(node.parent), node.name)
        except FileNotFoundError:
            raise OSError(errno.ESTALE, "neither here nor cold") from None
        node.target = target
        self.nodes.arrived(node, stat)

    def need(self, node: Node) -> None:
        """Before anything that wants the bytes or changes the file. Raises Fetching while it is cold."""
        if node.flags & COLD:
            try:
                self.settle(node)
            except OSError:
                raise Fetching(self.tree.path(node)) from None


def pretend(entry: ColdEntry, ino: int) -> os.stat_result:
    """What stat(2) will say of a cold file when it is here. Blocks of 512 bytes as if it were not sparse."""
    second = entry.mtime_ns // attributes.SECOND
    return os.stat_result(
        (entry.mode, ino, 0, 1, entry.uid, entry.gid, entry.size, second, second, second),
        {
            "st_atime_ns": entry.mtime_ns, "st_mtime_ns": entry.mtime_ns, "st_ctime_ns": entry.mtime_ns,
            "st_blocks": -(-entry.size // 512), "st_rdev": 0, "st_blksize": attributes.BLOCK,
        },
    )  # fmt: skip
