"""Who is at the other end of the socket, and what they may do.

The socket's mode decides who can connect (0600 for a user's daemon, 0660 root:group for a node's); the kernel says who
did (SO_PEERCRED, unix(7)). The daemon's own user and root may do everything. The others of the group may look,
prefetch, flush and verify: all that a job needs, nothing that could cost somebody else's checkpoints.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web

from ckptd.domain.errors import NotAllowed

_UCRED = struct.Struct("3i")


class Caller(StrEnum):
    """Who may make a call."""

    ANYONE = "anyone"  # who can open the socket
    OWNER = "owner"  # the daemon's user and root


@dataclass(frozen=True, slots=True)
class Peer:
    uid: int
    gid: int
    pid: int

    @property
    def owner(self) -> bool:
        return self.uid in (0, os.geteuid())

    def require_owner(self, what: str) -> None:
        if not self.owner:
            raise NotAllowed(
                f"user {self.uid} may not {what}",
                hint="only the daemon's own user and root may; others can look, prefetch, flush and verify",
            )


def peer_of(request: web.Request) -> Peer:
    """By the kernel's word. NotAllowed where the connection is gone or is not a Unix socket."""
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is None or connection.family != socket.AF_UNIX:
        raise NotAllowed("only callers on the daemon's Unix socket are known")
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(uid=uid, gid=gid, pid=pid)
