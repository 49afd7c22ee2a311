"""Which directory a watch descriptor stands for: the volume's directories as a tree of names.

A watch belongs to a directory's inode, so it keeps its descriptor when the directory, or one above it, is renamed.
Hence paths are not stored but read off the tree, and a rename is one pointer.
"""

from __future__ import annotations

from collections.abc import Iterator

Identity = tuple[int, int]
"""Device and inode of a directory."""


class Node:
    """One directory. `wd` None: known, but not watched. A node without parent is the root, or cut off from the tree."""

    __slots__ = ("children", "identity", "name", "parent", "wd")

    def __init__(self, name: str, wd: int | None = None, identity: Identity | None = None) -> None:
        self.name = name
        self.wd = wd
        self.identity = identity
        self.parent: Node | None = None
        self.children: dict[str, Node] = {}

    def ancestors(self) -> Iterator[Node]:
        """The node and those above it, up to the root or the place where it is cut off."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def subtree(self) -> Iterator[Node]:
        stack = [self]
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            yield node


class Tree:
    def __init__(self) -> None:
        self.root = Node("")
        self._by_wd: dict[int, Node] = {}
        self._displaced: list[Node] = []
        self.strayed = False
        """Whether a directory was ever found elsewhere than it was known to be, before its rename was told."""

    def __len__(self) -> int:
        return len(self._by_wd)

    def of(self, wd: int) -> Node | None:
        return self._by_wd.get(wd)

    def watches(self) -> frozenset[int]:
        return frozenset(self._by_wd)

    def find(self, path: str) -> Node | None:
        """The node at a relative path; "" is the root."""
        node: Node | None = self.root
        for name in path.split("/") if path else ():
            node = node.children.get(name) if node else None
        return node

    def top(self, node: Node) -> Node:
        *_, last = node.ancestors()
        return last

    def path(self, node: Node) -> str:
        """Relative path; only meaningful for a node that hangs below the root."""
        return "/".join(reversed([found.name for found in node.ancestors() if found.parent]))

    def attach(self, path: str, wd: int | None, identity: Identity | None) -> bool:
        """Says that the directory at `path` has this watch. False: the directory above it is not known.

        A node that held the watch elsewhere comes along with all below it (`strayed`); one that held the path is
        displaced (`sweep`). Both happen when the disk is ahead of the events that are still queued.
        """
        if not path:
            self._give(self.root, wd, identity)
            return True
        above, _, name = path.rpartition("/")
        parent = self.find(above)
        if parent is None:
            return False
        node = self._by_wd.get(wd) if wd is not None else parent.children.get(name)
        if node is not None and any(found is node for found in parent.ancestors()):
            node.wd = None  # what we believed above this path is stale
            node = None
            self.strayed = True
        elif node is not None and node.parent is not None and (node.parent is not parent or node.name != name):
            self.strayed = True
        node = node or Node(name)
        self.graft(node, parent, name)
        self._give(node, wd, identity)
        return True

    def _give(self, node: Node, wd: int | None, identity: Identity | None) -> None:
        if node.wd is not None and node.wd != wd:
            self._by_wd.pop(node.wd, None)
        node.wd, node.identity = wd, identity
        if wd is not None:
            self._by_wd[wd] = node

    def cut(self, node: Node) -> None:
        """Takes a directory out of its place, with all below it; it stays known by its watch."""
        if node.parent is not None:
            if node.parent.children.get(node.name) is node:
                del node.parent.children[node.name]
            node.parent = None

    def graft(self, node: Node, parent: Node, name: str) -> None:
        """Puts a directory in a place; what was there is displaced."""
        self.cut(node)
        before = parent.children.get(name)
        if before is not None:
            self.cut(before)
            self._displaced.append(before)
        node.name, node.parent = name, parent
        parent.children[name] = node

    def drop(self, node: Node) -> list[int]:
        """Forgets a directory and all below it; returns the watches that are not needed any more."""
        self.cut(node)
        gone = [found.wd for found in node.subtree() if found.wd is not None and self._by_wd.get(found.wd) is found]
        for wd in gone:
            del self._by_wd[wd]
        return gone

    def sweep(self) -> list[int]:
        """Forgets what was displaced and found no new place since."""
        displaced, self._displaced = self._displaced, []
        return [wd for node in displaced if node.parent is None for wd in self.drop(node)]
