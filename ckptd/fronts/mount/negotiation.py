"""INIT: once a mount. What was agreed is kept in the state, because a server that takes over is not asked again."""

from __future__ import annotations

from dataclasses import dataclass

from ckptd.fronts.mount import wire

MAX_WRITE = 1 << 20
"""Bytes a READ or WRITE that goes through the server may have; the most that a kernel allows by default (256 pages)."""
PAGE = 4096

WANTED = (
    wire.ASYNC_READ
    | wire.ATOMIC_O_TRUNC
    | wire.BIG_WRITES
    | wire.DO_READDIRPLUS
    | wire.READDIRPLUS_AUTO
    | wire.ASYNC_DIO
    | wire.PARALLEL_DIROPS
    | wire.MAX_PAGES
    | wire.HANDLE_KILLPRIV_V2  # without it every write(2) asks for security.capability first
    | wire.INIT_EXT
    | wire.HAS_RESEND
)
"""Not POSIX_LOCKS, not FLOCK_LOCKS: locks stay in the kernel, which knows all who use the mount. Not WRITEBACK_CACHE: it and
PASSTHROUGH exclude each other. Not DONT_MASK: modes come with the umask applied."""


@dataclass(frozen=True)
class Negotiated:
    minor: int
    flags: int
    """Both words, as one number."""
    max_write: int

    @property
    def passthrough(self) -> bool:
        return bool(self.flags & wire.PASSTHROUGH)

    @property
    def resend(self) -> bool:
        return bool(self.flags & wire.HAS_RESEND)


def negotiate(body: memoryview, *, passthrough: bool) -> tuple[Negotiated, bytes]:
    """From an INIT request to what holds from now on, and the answer. Raises ValueError for a kernel before protocol 7.36."""
    major, minor, readahead, low = wire.MKDIR_IN.unpack_from(body) + wire.MKDIR_IN.unpack_from(body, 8)
    if major != wire.KERNEL_VERSION or len(body) < wire.INIT_IN.size:
        raise ValueError(f"this kernel speaks FUSE {major}.{minor}; 7.36 (Linux 5.17) or newer is needed")
    offered = low | wire.INIT_IN.unpack_from(body)[4] << 32
    agreed = offered & (WANTED | (wire.PASSTHROUGH if passthrough else 0))
    agreed |= wire.INIT_EXT & offered
    result = Negotiated(min(minor, wire.MINOR_VERSION), agreed, MAX_WRITE)
    answer = wire.INIT_OUT.pack(
        wire.KERNEL_VERSION, result.minor, readahead, agreed & 0xFFFFFFFF, 64, 48, MAX_WRITE, 1, MAX_WRITE // PAGE, 0,
        agreed >> 32, int(result.passthrough),
    )  # fmt: skip
    return result, answer
