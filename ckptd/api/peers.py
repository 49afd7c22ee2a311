"""Who is at the other end of the socket.

The kernel says it (SO_PEERCRED and SO_PEERGROUPS, unix(7)), as it was when the caller connected; nothing that a caller sends
counts. What he may do then is decided by `guard`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

from aiohttp import web

from ckptd.domain.access import Identity
from ckptd.domain.errors import NotAllowed

UCRED = struct.Struct("iII")
_SO_PEERGROUPS = 59  # asm-generic/socket.h; Python has no name for it
_GROUPS_READ = 1024  # bytes: as much as Python's getsockopt takes, 256 groups

Authorise = Callable[[web.Request], Identity]


def is_administrator(uid: int, gids: frozenset[int], admin_gid: int | None) -> bool:
    return uid in (0, os.geteuid()) or (admin_gid is not None and admin_gid in gids)


def peer_of(request: web.Request, admin_gid: int | None = None) -> Identity:
    """By the kernel's word. NotAllowed where the connection is gone or is not a Unix socket."""
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is None or connection.family != socket.AF_UNIX:
        raise NotAllowed("only callers on the daemon's Unix socket are known")
    return identity_of(connection, admin_gid)


def identity_of(connection: socket.socket, admin_gid: int | None = None) -> Identity:
    """Raises NotAllowed for a member of very many groups."""
    _, uid, gid = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    if is_administrator(uid, frozenset(), None):
        return Identity(uid, frozenset({gid}), administrator=True)
    gids = frozenset({gid, *_groups(connection)})
    return Identity(uid, gids, is_administrator(uid, gids, admin_gid))


def _groups(connection: socket.socket) -> tuple[int, ...]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_READ)
    except OSError as error:
        # Not taken for a member of none: a group may also have fewer rights than others have.
        raise NotAllowed("you are in more groups than ckptd can read (256)", hint="ask an administrator") from error
    return struct.unpack(f"{len(raw) // 4}I", raw)
