"""Files that are only in the remote, as a mounted volume's tree has them: links that lead nowhere and say what is missing.

The mount shows each as the file that it stands for, and has it fetched when somebody opens it. The names are the tree's own, so
they need no process to keep them, and cost what a link costs.

    /.ckptd-cold/<mode, octal>.<uid>.<gid>.<size>.<mtime in ns>
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "/.ckptd-cold/"
_PREFIX = PREFIX.encode()


@dataclass(frozen=True, slots=True)
class Stub:
    """`size` in bytes, `mtime_ns` since the epoch, `mode` without the file's type."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int

    @property
    def target(self) -> str:
        return f"{PREFIX}{self.mode:o}.{self.uid}.{self.gid}.{self.size}.{self.mtime_ns}"


def is_stub(target: str) -> bool:
    return target.startswith(PREFIX)


def read(target: bytes) -> Stub | None:
    """What a link's target stands for; None for any other link."""
    if not target.startswith(_PREFIX):
        return None
    mode, *rest = target[len(_PREFIX) :].split(b".")
    try:
        uid, gid, size, mtime_ns = map(int, rest)
        return Stub(int(mode, 8), uid, gid, size, mtime_ns)
    except ValueError:
        return None
