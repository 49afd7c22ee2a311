"""SETATTR: mode, owner, size and times."""

from __future__ import annotations

import os

from ckptd.fronts.mount import system, wire
from ckptd.fronts.mount.attributes import without_privileges
from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.context import Context
from ckptd.fronts.mount.nodes import COLD, DIRECTORY, Node

TIMES = wire.FATTR_ATIME | wire.FATTR_MTIME | wire.FATTR_ATIME_NOW | wire.FATTR_MTIME_NOW
CHANGES = TIMES | wire.FATTR_MODE | wire.FATTR_UID | wire.FATTR_GID | wire.FATTR_SIZE


class Setting:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._tree = context.tree

    def setattr(self, request: Request) -> bytes:
        valid, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = (
            wire.SETATTR_IN.unpack_from(request.body)
        )
        node = self._tree.node(request.nodeid)
        if node.flags & COLD:
            self._context.need(node)
        # The owner first: a new owner takes the set-user-id bit away, and a mode that comes with it is meant to stay.
        if valid & (wire.FATTR_UID | wire.FATTR_GID):
            self._chown(node, uid if valid & wire.FATTR_UID else -1, gid if valid & wire.FATTR_GID else -1)
        if valid & wire.FATTR_MODE:
            self._chmod(node, mode & 0o7777)
        if valid & wire.FATTR_SIZE:
            self.truncate(node, size, privileges=not valid & wire.FATTR_KILL_SUIDGID)
        elif not valid & CHANGES or valid & wire.FATTR_KILL_SUIDGID:
            # Before a write in passthrough the kernel asks for privileges to go with a SETATTR that changes nothing: with
            # HANDLE_KILLPRIV_V2 fuse_setattr() takes ATTR_KILL_SUID out and sends what is left.
            self.kill_privileges(node)
        if valid & TIMES:
            self._utime(
                node,
                _time(valid, wire.FATTR_ATIME, wire.FATTR_ATIME_NOW, atime, atime_ns)
                + _time(valid, wire.FATTR_MTIME, wire.FATTR_MTIME_NOW, mtime, mtime_ns),
            )
        return self._context.attributes(node)

    def truncate(self, node: Node, size: int, *, privileges: bool = True) -> None:
        """Raises BlockingIOError while the daemon has a lease on the file."""
        fd = self._tree.opened(node, write=True)
        try:
            if not privileges:
                self.kill_privileges(node)
            os.ftruncate(fd, size)
            self._context.ahead.truncated(node, size)
        finally:
            if not node.opens:
                self._tree.close(node)

    def kill_privileges(self, node: Node) -> None:
        """Of files only: a directory's set-group-id bit stays whatever is done to it (chown_common() in fs/open.c)."""
        if node.flags & DIRECTORY:
            return
        mode = self._tree.status(node).st_mode & 0o7777
        left = without_privileges(mode)
        if left != mode:
            self._chmod(node, left)

    def _chmod(self, node: Node, mode: int) -> None:
        if self._has_file(node):
            os.fchmod(node.fd, mode)
        else:
            dir_fd, name = self._reach(node)
            os.chmod(name, mode, dir_fd=dir_fd)

    def _chown(self, node: Node, uid: int, gid: int) -> None:
        if self._has_file(node):
            os.fchown(node.fd, uid, gid)
        else:
            dir_fd, name = self._reach(node)
            os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)

    def _utime(self, node: Node, times: tuple[int, int, int, int]) -> None:
        if self._has_file(node):
            system.futimens(node.fd, times)
        else:
            system.utimensat(*self._reach(node), times)

    def _has_file(self, node: Node) -> bool:
        """A descriptor that can change attributes: those of directories are O_PATH."""
        if node.opens and node.fd < 0:
            self._tree.opened(node)
        return node.fd >= 0 and not node.flags & DIRECTORY

    def _reach(self, node: Node) -> tuple[int, bytes]:
        """A name that leads to the node, and not through a symbolic link: that is looked at first."""
        if node.flags & DIRECTORY:
            return system.AT_FDCWD, b"/proc/self/fd/%d/." % self._tree.directory(node.id)
        self._tree.status(node)
        return self._tree.place(node)


def _time(valid: int, given: int, now: int, seconds: int, ns: int) -> tuple[int, int]:
    if valid & now:
        return 0, system.UTIME_NOW
    if valid & given:
        return seconds, ns
    return 0, system.UTIME_OMIT
