"""MKDIR, MKNOD, SYMLINK, LINK: what makes names. CREATE, which also opens, is in files.py.

The kernel holds the directory and has found the name absent before it asks. So the journal takes it for absent, and a name that
is there when such a request is resent, begun and not finished, is the one that it made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
from collections.abc import Callable

from ckptd.fronts.mount import wire
from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.context import Context
from ckptd.fronts.mount.looking import Looking
from ckptd.fronts.mount.outcomes import Names, happened
from ckptd.fronts.mount.tree import Tree

ABSENT = Names()


class Making:
    def __init__(self, context: Context, looking: Looking) -> None:
        self._context = context
        self._tree = context.tree
        self._looking = looking

    def mkdir(self, request: Request) -> bytes:
        mode, _ = wire.MKDIR_IN.unpack_from(request.body)
        name = request.name(wire.MKDIR_IN.size)
        return self._make(request, name, lambda dir_fd: os.mkdir(name, modes.S_IMODE(mode), dir_fd=dir_fd))

    def mknod(self, request: Request) -> bytes:
        mode, _, _, _ = wire.MKNOD_IN.unpack_from(request.body)
        name = request.name(wire.MKNOD_IN.size)
        if not (modes.S_ISREG(mode) or modes.S_ISFIFO(mode) or modes.S_ISSOCK(mode)):
            raise PermissionError(errno.EPERM, "the mount has no devices")
        return self._make(request, name, lambda dir_fd: os.mknod(name, mode, dir_fd=dir_fd))

    def symlink(self, request: Request) -> bytes:
        name, target, _ = request.names(0)
        if self._tree.is_ours(target):
            raise PermissionError(errno.EPERM, "such links are ckptd's own")
        return self._make(request, name, lambda dir_fd: os.symlink(target, name, dir_fd=dir_fd))

    def link(self, request: Request) -> bytes:
        node = self._tree.node(wire.LINK_IN.unpack_from(request.body)[0])
        name = request.name(wire.LINK_IN.size)
        self._context.need(node)
        self._tree.status(node)  # the name that is known may have gone: ESTALE, and the kernel looks again
        # Of a demoted file it is the link that gets a second name.
        source_fd, source = (self._tree.directory(node.parent), node.name) if node.target else self._tree.place(node)

        def link(dir_fd: int) -> None:
            os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=dir_fd, follow_symlinks=False)

        return self._make(request, name, link)

    def _make(self, request: Request, name: bytes, make: Callable[[int], None]) -> bytes:
        allow(self._tree, request.nodeid, name)
        dir_fd = self._tree.directory(request.nodeid)
        context = self._context
        if not made_before(context, request, dir_fd, name):
            context.act_as(request.uid, request.gid)
            context.outcomes.begin(request.op, request.unique, ABSENT)
            make(dir_fd)
        else:
            context.nodes.take_back(request.unique)
            context.outcomes.begin(request.op, request.unique, ABSENT)
        return self._looking.entry(request.unique, request.nodeid, name)


def allow(tree: Tree, parent: int, name: bytes) -> None:
    if not tree.visible(parent, name):
        raise PermissionError(errno.EACCES, "names that begin with .ckptd- are ours here")


def made_before(context: Context, request: Request, dir_fd: int, name: bytes) -> bool:
    """Whether a resent request has made its name already."""
    before = context.outcomes.begun(request.unique) if request.resent else None
    return before is not None and happened(request.op, before, Names(target=inode(dir_fd, name)))


def inode(dir_fd: int, name: bytes) -> int:
    """0: nothing there."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino
    return 0
