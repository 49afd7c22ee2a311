"""Extended attributes: those of the job (`user.`) are the backing file's.

`security.` and `trusted.` are not given through the mount, POSIX ACLs are not negotiated. For `security.capability`, which the
kernel asks for before the first write to a file, "there is none" is answered without a look.
"""

from __future__ import annotations

import errno
import os

from ckptd.fronts.mount import wire
from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.context import Context
from ckptd.fronts.mount.nodes import COLD, DIRECTORY, Node
from ckptd.fronts.mount.outcomes import Names, happened

USER = b"user."


class Xattrs:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._tree = context.tree

    def getxattr(self, request: Request) -> bytes:
        size, _ = wire.GETXATTR_IN.unpack_from(request.body)
        name = request.name(wire.GETXATTR_IN.size)
        if not name.startswith(USER):
            raise OSError(errno.ENODATA if name == b"security.capability" else errno.EOPNOTSUPP, "not given")
        node = self._tree.node(request.nodeid)
        if node.flags & COLD:
            raise OSError(errno.ENODATA, "a cold file has none")
        return _sized(os.getxattr(self._path(node), name), size)

    def listxattr(self, request: Request) -> bytes:
        size, _ = wire.GETXATTR_IN.unpack_from(request.body)
        node = self._tree.node(request.nodeid)
        names = [] if node.flags & COLD else os.listxattr(self._path(node))
        shown = (os.fsencode(name) + b"\0" for name in names if name.startswith("user."))
        return _sized(b"".join(shown), size)

    def setxattr(self, request: Request) -> bytes:
        size, flags = wire.SETXATTR_IN.unpack_from(request.body)
        rest = bytes(request.body[wire.SETXATTR_IN.size :])
        name, value = rest[: rest.index(b"\0")], rest[rest.index(b"\0") + 1 :][:size]
        path = self._writable(request.nodeid, name)
        before = self._context.outcomes.begun(request.unique) if request.resent else None
        has = int(_has(path, name))
        if before is not None and flags & os.XATTR_CREATE and happened(request.op, before, Names(target=has)):
            return b""
        self._context.outcomes.begin(request.op, request.unique, Names(target=has))
        os.setxattr(path, name, value, flags)
        return b""

    def removexattr(self, request: Request) -> bytes:
        name = request.name()
        path = self._writable(request.nodeid, name)
        before = self._context.outcomes.begun(request.unique) if request.resent else None
        has = int(_has(path, name))
        if before is not None and happened(request.op, before, Names(source=has)):
            return b""
        self._context.outcomes.begin(request.op, request.unique, Names(source=has))
        os.removexattr(path, name)
        return b""

    def _writable(self, id: int, name: bytes) -> bytes | int:
        if not name.startswith(USER):
            raise OSError(errno.EOPNOTSUPP, "only user. attributes")
        node = self._tree.node(id)
        self._context.need(node)
        return self._path(node)

    def _path(self, node: Node) -> bytes | int:
        """What the os functions take: a descriptor of an open file, else a path (they know no directory descriptors)."""
        if node.flags & DIRECTORY:
            return b"/proc/self/fd/%d/." % self._tree.directory(node.id)
        self._tree.status(node)  # ESTALE; opens again what a server before this one had open
        if node.fd >= 0:
            return node.fd
        dir_fd, name = self._tree.place(node)
        return name if node.target is not None else b"/proc/self/fd/%d/" % dir_fd + name


def _has(path: bytes | int, name: bytes) -> bool:
    return os.fsdecode(name) in os.listxattr(path)


def _sized(value: bytes, size: int) -> bytes:
    if not size:
        return wire.GETXATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise OSError(errno.ERANGE, "longer than the caller's room")
    return value
