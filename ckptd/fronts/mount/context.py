"""What all operations share, and the one way in which a request waits."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from ckptd.fronts.mount import attributes, system
from ckptd.fronts.mount.ahead import Ahead
from ckptd.fronts.mount.nodes import COLD, IS_KEPT, Node, Nodes
from ckptd.fronts.mount.outcomes import Outcomes
from ckptd.fronts.mount.passthrough import Passthrough
from ckptd.fronts.mount.placing import Placing
from ckptd.fronts.mount.streams import Streams
from ckptd.fronts.mount.tree import Tree


class Fetching(Exception):
    """The request needs a cold file: it is handled again, from the start, when the file is there. Nothing was changed yet."""

    def __init__(self, path: bytes) -> None:
        super().__init__(path)
        self.path = path


class Syncing(Exception):
    """All is done here, and the request is answered when the daemon says that the remote has the content too."""

    def __init__(self, path: bytes, *, directory: bool) -> None:
        super().__init__(path)
        self.path, self.directory = path, directory


@dataclass
class Context:
    tree: Tree
    nodes: Nodes
    outcomes: Outcomes
    passthrough: Passthrough
    ahead: Ahead
    placing: Placing
    streams: Streams
    want: Callable[[bytes], None] = lambda _: None
    """Has a cold file fetched, though no request waits for it."""
    patient: bool = True
    """The request that is handled may wait for room."""
    acting: tuple[int, int] = (0, 0)
    fsync_asks: Callable[[], bool] = lambda: False
    """Whether fsync may have to wait for the remote: the daemon knows."""

    def act_as(self, uid: int, gid: int) -> None:
        """Whose the files made from here on are. Permissions were checked by the kernel (default_permissions)."""
        if self.acting != (uid, gid):
            self.acting = (uid, gid)
            system.act_as(uid, gid)

    def number(self, stat: os.stat_result) -> int:
        return attributes.number(stat, self.tree.home)

    def entry(self, node: Node, stat: os.stat_result, ino: int) -> bytes:
        """The answer that gives the kernel a node."""
        return attributes.entry(node.id, stat, ino, _links(node, stat))

    def attributes(self, node: Node) -> bytes:
        """The answer to GETATTR and SETATTR."""
        if node.flags & COLD and not self.settle(node):
            stat = self.tree.status(node)
            return attributes.attributes(stat, stat.st_ino, stat.st_nlink)
        stat = self.tree.status(node)
        return attributes.attributes(stat, self.number(stat), _links(node, stat))

    def settle(self, node: Node) -> bool:
        """Whether the file of a cold node has come, which the node is told. Raises ESTALE when nothing is there any more."""
        try:
            stat, target = self.tree.look(self.tree.directory(node.parent), node.name)
        except FileNotFoundError:
            raise OSError(errno.ESTALE, "neither here nor cold") from None
        self.nodes.identify(node, stat)
        self.nodes.points(node, target)
        return not node.flags & COLD

    def wait_for_remote(self, node: Node, *, directory: bool = False) -> None:
        """At the end of an fsync. Raises Syncing where the daemon is to be asked. What has no name any more is sent nowhere."""
        if self.fsync_asks() and not node.flags & IS_KEPT:
            raise Syncing(self.tree.path(node), directory=directory)

    def need(self, node: Node) -> None:
        """Before anything that wants the bytes or changes the file. Raises Fetching while it is cold."""
        if node.flags & COLD and not self.settle(node):
            raise Fetching(self.tree.path(node))


def _links(node: Node, stat: os.stat_result) -> int:
    """Without the name that keeps an open file reachable for us."""
    return stat.st_nlink - bool(node.flags & IS_KEPT)
