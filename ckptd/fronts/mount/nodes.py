"""Nodes: what the kernel calls by number. An id is a slot of the state and a number that no earlier user of the slot had.

A node is a file's identity (device and inode number of the backing tree), so hard links are one node, as the kernel demands of
passthrough. It keeps *one* name, by which the server reaches the file: the one that was looked up last. Why this is enough:
- a name is compared with the identity whenever it is used. If it leads elsewhere (the daemon put another file there, a hard link
  under another name remained) the answer is ESTALE, and the kernel looks the path up again and repeats the call by itself;
- a file that is open must stay reachable without a path. Before its name goes it gets another one in the private directory
  KEPT of the backing tree, until the last close. That works on every file system, and a new server finds it there.
The nodes of open files and of directories also have a descriptor while the server lives.
"""

from __future__ import annotations

import os

from ckptd.fronts.mount import wire
from ckptd.fronts.mount.state import Slot, State
from ckptd.tiers import stub

KEPT = b".ckptd-open"
"""Directory in the root of the backing tree: files that are open and have no name any more, by node id."""
PRIVATE = b".ckptd-"
"""Names in the root that begin so are neither shown nor given."""

DIRECTORY, COLD, IS_KEPT, MEDIATED, WRITABLE = 1, 2, 4, 8, 16
"""Flags of a node's slot."""


class Node:
    """`fd`: of a directory (O_PATH), or of a file while it is open; -1 else. `backing`: the kernel's id while the file is open in
    passthrough, else 0. `target`: what our own link at its name leads to: a demoted file's object, a cold file's stub.
    """

    __slots__ = ("backing", "dev", "fd", "flags", "id", "ino", "name", "nlookup", "opens", "parent", "slot", "target")

    def __init__(self, slot: int, id: int, ino: int, dev: int, parent: int, name: bytes, flags: int) -> None:
        self.slot, self.id, self.ino, self.dev = slot, id, ino, dev
        self.parent, self.name, self.flags = parent, name, flags
        self.nlookup = self.opens = self.backing = 0
        self.fd = -1
        self.target: bytes | None = None


class Nodes:
    def __init__(self, state: State, root: os.stat_result) -> None:
        self._state = state
        self.root = Node(wire.ROOT_ID, wire.ROOT_ID, root.st_ino, root.st_dev, 0, b"", DIRECTORY)
        self.by_id: dict[int, Node] = {wire.ROOT_ID: self.root}
        self.by_identity: dict[tuple[int, int], Node] = {(root.st_ino, root.st_dev): self.root}
        self._reading: set[Node] = set()
        for slot in state.load():
            self._adopt(slot)

    def _adopt(self, slot: Slot) -> None:
        node = Node(slot.index, slot.nodeid, slot.ino, slot.dev, slot.parent, slot.name, slot.flags)
        node.nlookup, node.opens, node.backing = slot.nlookup, slot.opens, slot.backing
        if node.flags & IS_KEPT:
            self.rename(node, 0, b"%x" % node.id)
        self.by_id[node.id] = node
        self._index(node)
        if node.opens and node.flags & COLD:
            self._reading.add(node)

    def read_early(self, node: Node) -> None:
        """Somebody reads a cold file before all of it is here."""
        self._reading.add(node)

    def reading(self, parent: int, name: bytes) -> Node | None:
        """The node of a file that is read so, by its name: when it has come, its identity is not yet that of its node."""
        self._reading = {node for node in self._reading if node.opens and node.flags & COLD}
        return next((node for node in self._reading if (node.parent, node.name) == (parent, name)), None)

    def _index(self, node: Node) -> None:
        if node.ino:
            self.by_identity[node.ino, node.dev] = node

    def of(self, stat: os.stat_result, parent: int, name: bytes, *, directory: bool) -> Node:
        """The node of a file that was found at a name; a new one if need be. The name becomes the one that is kept."""
        node = self.by_identity.get((stat.st_ino, stat.st_dev))
        if node is None:
            return self._new(stat.st_ino, stat.st_dev, parent, name, DIRECTORY if directory else 0)
        if (node.name != name or node.parent != parent) and not node.flags & IS_KEPT:
            if stat.st_nlink == 1 and not node.opens and not directory:
                # Not a second name. The daemon renamed it, or its inode number was used again: the old node is nobody's.
                self.lose(node)
                return self._new(stat.st_ino, stat.st_dev, parent, name, 0)
            self.rename(node, parent, name)
        return node

    def _new(self, ino: int, dev: int, parent: int, name: bytes, flags: int) -> Node:
        index, id = self._state.allocate()
        self._state.put(index, id, ino, dev, parent, name, flags)
        node = Node(index, id, ino, dev, parent, name, flags)
        self.by_id[id] = node
        self._index(node)
        return node

    def identify(self, node: Node, stat: os.stat_result) -> None:
        """A cold node's file has come, or another stub: from here on the node is of that, unless that has one already."""
        if (node.ino, node.dev) == (stat.st_ino, stat.st_dev):
            return
        if self.by_identity.get((node.ino, node.dev)) is node:
            del self.by_identity[node.ino, node.dev]
        node.ino, node.dev = stat.st_ino, stat.st_dev
        self._state.identify(node.slot, node.ino, node.dev)
        self.by_identity.setdefault((node.ino, node.dev), node)

    def points(self, node: Node, target: bytes | None) -> None:
        """Our own link at its name leads there: to an object, or nowhere because the file is cold."""
        cold = target is not None and stub.read(target) is not None
        node.target = target
        self.flag(node, node.flags | COLD if cold else node.flags & ~COLD)

    def flag(self, node: Node, flags: int) -> None:
        if node.flags != flags:
            node.flags = flags
            self._state.set_flags(node.slot, flags)

    def rename(self, node: Node, parent: int, name: bytes) -> None:
        node.parent, node.name = parent, name
        self._state.rename(node.slot, parent, name)

    def give(self, node: Node, request: int) -> None:
        """Counts that the kernel was told of the node by the answer to a request."""
        if node.id != wire.ROOT_ID:
            self._state.give(request, node.slot, node.nlookup)
            node.nlookup += 1

    def take_back(self, request: int) -> None:
        """A request that is resent: what its lost answer would have given was not."""
        unique, slot, before = self._state.given()
        if unique != request or not slot:
            return
        self._state.give_nothing()
        node = next((node for node in self.by_id.values() if node.slot == slot), None)
        if node is not None and node.nlookup == before + 1:
            node.nlookup = before
            self._state.set_nlookup(slot, before)

    def forget(self, id: int, count: int) -> Node | None:
        """The kernel has dropped it. Gives the node back when nothing refers to it any more."""
        node = self.by_id.get(id)
        if node is None or id == wire.ROOT_ID:
            return None
        node.nlookup = max(0, node.nlookup - count)
        if node.nlookup or node.opens:
            self._state.set_nlookup(node.slot, node.nlookup)
            return None
        self._drop(node)
        return node

    def _drop(self, node: Node) -> None:
        self._state.drop(node.slot)
        del self.by_id[node.id]
        if self.by_identity.get((node.ino, node.dev)) is node:
            del self.by_identity[node.ino, node.dev]

    def lose(self, node: Node) -> None:
        """Its file is gone for good and nobody has it open: another file may get the inode number."""
        if self.by_identity.get((node.ino, node.dev)) is node:
            del self.by_identity[node.ino, node.dev]
        node.ino = node.dev = 0
        self._state.identify(node.slot, 0, 0)

    def set_opens(self, node: Node, opens: int) -> None:
        node.opens = opens
        self._state.set_opens(node.slot, opens)

    def set_backing(self, node: Node, backing: int) -> None:
        node.backing = backing
        self._state.set_backing(node.slot, backing)
