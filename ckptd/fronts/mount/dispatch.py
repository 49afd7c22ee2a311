"""Which part of the file system answers which opcode."""

from __future__ import annotations

import errno
from collections.abc import Callable

from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.contents import Contents
from ckptd.fronts.mount.context import Context
from ckptd.fronts.mount.directories import Directories
from ckptd.fronts.mount.files import Files
from ckptd.fronts.mount.looking import Looking
from ckptd.fronts.mount.making import Making
from ckptd.fronts.mount.negotiation import MAX_WRITE
from ckptd.fronts.mount.removing import Removing
from ckptd.fronts.mount.setting import Setting
from ckptd.fronts.mount.wire import Op
from ckptd.fronts.mount.xattrs import Xattrs

Answer = bytes | memoryview | None
"""None: nothing is to be said, now or ever."""
Handler = Callable[[Request], Answer]
LAST_OP = 64
"""Opcodes beyond are answered with ENOSYS, like all without a handler; the kernel does not ask again."""


class Dispatch:
    """`own`: handlers of what concerns the connection itself."""

    def __init__(self, context: Context, own: dict[Op, Handler]) -> None:
        looking, setting = Looking(context), Setting(context)
        self.files = Files(context, looking, setting)
        self._table: list[Handler | None] = [None] * LAST_OP
        for part, ops in (
            (looking, (Op.LOOKUP, Op.FORGET, Op.BATCH_FORGET, Op.GETATTR, Op.READLINK, Op.STATFS)),
            (Making(context, looking), (Op.MKDIR, Op.MKNOD, Op.SYMLINK, Op.LINK)),
            (Removing(context), (Op.UNLINK, Op.RMDIR, Op.RENAME, Op.RENAME2)),
            (setting, (Op.SETATTR,)),
            (self.files, (Op.CREATE, Op.OPEN, Op.RELEASE)),
            (
                Contents(context, setting, MAX_WRITE),
                (Op.READ, Op.WRITE, Op.FSYNC, Op.FALLOCATE, Op.LSEEK, Op.COPY_FILE_RANGE),
            ),
            (Directories(context, looking), (Op.OPENDIR, Op.READDIR, Op.READDIRPLUS, Op.RELEASEDIR, Op.FSYNCDIR)),
            (Xattrs(context), (Op.GETXATTR, Op.LISTXATTR, Op.SETXATTR, Op.REMOVEXATTR)),
        ):
            for op in ops:
                self._table[op] = getattr(part, op.name.lower())
        for op, handler in {Op.IOCTL: _not_a_terminal, Op.DESTROY: _nothing, **own}.items():
            self._table[op] = handler

    def handler(self, op: int) -> Handler | None:
        return self._table[op] if op < LAST_OP else None


def _not_a_terminal(_request: Request) -> Answer:
    raise OSError(errno.ENOTTY, "not a terminal")


def _nothing(_request: Request) -> Answer:
    return b""
