"""CREATE, OPEN, RELEASE: which files are open, how often, and by which way their bytes go."""

from __future__ import annotations

import contextlib
import os

from ckptd.fronts.mount import streams, wire
from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.context import Context, Fetching
from ckptd.fronts.mount.looking import Looking
from ckptd.fronts.mount.making import ABSENT, allow, made_before
from ckptd.fronts.mount.nodes import COLD, IS_KEPT, WRITABLE, Node
from ckptd.fronts.mount.placing import MAKE
from ckptd.fronts.mount.setting import Setting

HANDLE = 0
"""All file handles are 0: what a handle would lead to hangs on the node, which every request names."""


NO_ROOM = "no tier had room for it"
"""Then the server writes, and can wait for room in the middle of a file."""


class Files:
    def __init__(self, context: Context, looking: Looking, setting: Setting) -> None:
        self._context = context
        self._tree = context.tree
        self._nodes = context.nodes
        self._outcomes = context.outcomes
        self._looking = looking
        self._setting = setting

    def create(self, request: Request) -> bytes:
        flags, mode, _, open_flags = wire.CREATE_IN.unpack_from(request.body)
        name = request.name(wire.CREATE_IN.size)
        allow(self._tree, request.nodeid, name)
        dir_fd = self._tree.directory(request.nodeid)
        context = self._context
        ours = made_before(context, request, dir_fd, name)
        if ours:
            context.nodes.take_back(request.unique)
        path = self._tree.path_in(request.nodeid, name)
        promised = context.placing.room_for(path, patient=context.patient)
        context.act_as(request.uid, request.gid)
        self._outcomes.begin(request.op, request.unique, ABSENT)
        try:
            below = None if promised is not None else context.placing.make_below(dir_fd, name, mode & 0o7777, path)
            if below is not None:
                try:
                    return self._create_over(request, name, flags, open_flags)
                finally:
                    os.close(below)
            fd = os.open(name, MAKE, mode & 0o7777, dir_fd=dir_fd)
        except FileExistsError:
            if flags & os.O_EXCL and not ours:
                raise
            return self._create_over(request, name, flags, open_flags)
        stat = os.fstat(fd)
        node = self._nodes.of(stat, request.nodeid, name, directory=False)
        node.fd = fd
        self._nodes.flag(node, node.flags | WRITABLE)
        if promised is None:
            context.passthrough.mediate(node, NO_ROOM)
        context.ahead.begin(node, path, promised or 0)
        opened = self._count(node, fd)
        self._nodes.give(node, request.unique)
        return context.entry(node, stat, context.number(stat)) + opened

    def _create_over(self, request: Request, name: bytes, flags: int, open_flags: int) -> bytes:
        """Somebody was faster: the daemon, or this request before the server was killed."""
        node, _, _ = self._looking.find(request.nodeid, name)
        opened = self._open(node, flags, open_flags)
        return self._looking.entry(request.unique, request.nodeid, name) + opened

    def open(self, request: Request) -> bytes:
        flags, open_flags = wire.OPEN_IN.unpack_from(request.body)
        node = self._tree.node(request.nodeid)
        if node.flags & COLD and not self._context.settle(node):
            return self._open_cold(request, node, flags)
        # Opened before the journal is begun: it may be told to wait (a lease, a fetch), and a request that waits is not begun.
        self._descriptor(node, flags)
        if flags & (os.O_ACCMODE | os.O_TRUNC) and node.target is None:
            self._follow(node, rewritten=bool(flags & os.O_TRUNC))
        self._outcomes.begin(request.op, request.unique, ABSENT)
        return self._open(node, flags, open_flags)

    def _open_cold(self, request: Request, node: Node, flags: int) -> bytes:
        """Who only reads a large file need not wait for all of it."""
        path = self._tree.path(node)
        size = self._tree.status(node).st_size
        if flags & (os.O_ACCMODE | os.O_TRUNC) or size < streams.LEAST:
            raise Fetching(path)
        self._context.want(path)
        self._outcomes.begin(request.op, request.unique, ABSENT)
        if not node.opens:
            self._context.passthrough.mediate(node, "it was opened before all of it was here")
        opened = self._count(node, -1)
        self._nodes.read_early(node)
        return opened

    def _descriptor(self, node: Node, flags: int) -> int:
        return self._tree.opened(node, write=bool(flags & (os.O_ACCMODE | os.O_TRUNC)))

    def _follow(self, node: Node, *, rewritten: bool) -> None:
        """What a writer makes of a file that is there already, in memory."""
        if not self._context.ahead.follows(node) and not node.flags & IS_KEPT:
            path = self._tree.path(node)
            self._context.ahead.begin(node, path, self._context.placing.more_for(path, node.fd) if rewritten else 0)

    def _open(self, node: Node, flags: int, open_flags: int) -> bytes:
        fd = self._descriptor(node, flags)
        if flags & os.O_TRUNC:
            try:
                if open_flags & wire.OPEN_KILL_SUIDGID:
                    self._setting.kill_privileges(node)
                os.ftruncate(fd, 0)
                self._context.ahead.truncated(node, 0)
            except OSError:
                if not node.opens:
                    self.last_close(node)
                raise
        return self._count(node, fd)

    def _count(self, node: Node, fd: int) -> bytes:
        self._outcomes.counted(node.slot, node.opens)
        self._nodes.set_opens(node, node.opens + 1)
        flags, backing = self._context.passthrough.open(node, fd)
        return wire.OPEN_OUT.pack(HANDLE, flags, backing)

    def release(self, request: Request) -> bytes:
        node = self._nodes.by_id.get(request.nodeid)
        if node is None or not node.opens:
            return b""
        self._outcomes.begin(request.op, request.unique, ABSENT)
        self._outcomes.counted(node.slot, node.opens)
        self._nodes.set_opens(node, node.opens - 1)
        if not node.opens:
            self.last_close(node)
        return b""

    def last_close(self, node: Node) -> None:
        if node.flags & WRITABLE:
            self._context.ahead.end(node)
        self._context.passthrough.close(node)
        self._tree.close(node)
        if node.flags & IS_KEPT:
            self._tree.release(node)
        if not node.nlookup:
            self._nodes.forget(node.id, 0)

    def take_over(self) -> None:
        """A count that was changing when the server before this one was killed is as before; its request comes again."""
        undecided = self._outcomes.undecided_count()
        for node in list(self._nodes.by_id.values()):
            if undecided is not None and node.slot == undecided[0]:
                self._nodes.set_opens(node, undecided[1])
            if node.opens:
                with contextlib.suppress(OSError):
                    self._tree.opened(node)
                    if node.flags & WRITABLE and node.target is None:
                        self._follow(node, rewritten=False)
            elif node.backing or node.flags & (IS_KEPT | WRITABLE):
                self.last_close(node)
        self._context.passthrough.take_over()
