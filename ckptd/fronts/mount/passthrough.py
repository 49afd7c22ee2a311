"""One backing id an inode: which files the kernel reads and writes by itself, and which go through the server.

The kernel's rules (fs/fuse/iomode.c): while an inode is open in passthrough every further open must name the same backing id, and
it must not be open in cached mode at the same time. So the first open decides for the inode, until the last close. Ids belong to
the connection and outlive the server; they stand in the node's slot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from dataclasses import dataclass, field

from ckptd.fronts.mount import wire
from ckptd.fronts.mount.nodes import MEDIATED, Node, Nodes
from ckptd.fronts.mount.state import State

_ID = struct.Struct("<I")


@dataclass
class Modes:
    """What the status tells: opens by the way their bytes take, and why not all go past the server."""

    passthrough: int = 0
    mediated: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


class Passthrough:
    """`refused`: why passthrough is off for the whole mount; None when the kernel and the options allow it."""

    def __init__(self, fd: int, state: State, nodes: Nodes, refused: str | None) -> None:
        self._fd = fd
        self._state = state
        self._nodes = nodes
        self.refused = refused
        self.modes = Modes()

    def open(self, node: Node, fd: int) -> tuple[int, int]:
        """For one more open of a node: FOPEN_ flags and the backing id."""
        if not node.backing and not node.flags & MEDIATED:
            reason = self.refused or self._register(node, fd)
            if reason is not None:
                self.mediate(node, reason)
        if node.backing:
            self.modes.passthrough += 1
            return wire.FOPEN_PASSTHROUGH, node.backing
        self.modes.mediated += 1
        return 0, 0

    def mediate(self, node: Node, reason: str) -> None:
        """Until its last close the file's bytes go through the server. Not for one that is open."""
        self.modes.reasons[reason] = self.modes.reasons.get(reason, 0) + 1
        self._nodes.flag(node, node.flags | MEDIATED)

    def _register(self, node: Node, fd: int) -> str | None:
        # A mutable buffer: with bytes, ioctl returns their copy instead of the id.
        argument = bytearray(wire.BACKING_MAP.pack(fd, 0, 0))
        try:
            id = fcntl.ioctl(self._fd, wire.DEV_IOC_BACKING_OPEN, argument)
        except OSError as error:
            return f"BACKING_OPEN: {os.strerror(error.errno or 0)}"
        self._nodes.set_backing(node, id)
        self._state.newest_backing = id
        return None

    def close(self, node: Node) -> None:
        """After the last close of a node."""
        if node.backing:
            self._drop(node.backing)
            self._nodes.set_backing(node, 0)
        self._nodes.flag(node, node.flags & ~MEDIATED)

    def _drop(self, id: int) -> None:
        with contextlib.suppress(OSError):  # ENOENT: closed by the server that was killed just then
            fcntl.ioctl(self._fd, wire.DEV_IOC_BACKING_CLOSE, _ID.pack(id))

    def take_over(self) -> None:
        """Ids are given in order. One that was opened and not yet noted when the server was killed is the next."""
        stray = self._state.newest_backing + 1
        if all(node.backing != stray for node in self._nodes.by_id.values()):
            self._drop(stray)
