"""Who keeps a mount busy: what umount(8) only calls EBUSY."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

_MOST = 20


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    command: str
    path: str

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid}): {self.path}"


def holders(target: str) -> list[Holder]:
    """Processes with an open file, a working directory or a mapping below `target`, one line each, at most 20.

    By /proc, whose links do not ask the mount: it may have no server any more. What another user runs is seen as root only.
    """
    found = []
    for name in sorted(filter(str.isdecimal, os.listdir("/proc")), key=int):
        path = next(_held(f"/proc/{name}", target), None)
        if path is not None:
            found.append(Holder(int(name), _command(name), path))
        if len(found) == _MOST:
            break
    return found


def _held(process: str, target: str) -> Iterator[str]:
    below = target.rstrip("/") + "/"
    for kind in ("fd", "map_files"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            for name in os.listdir(f"{process}/{kind}"):
                yield from _read(f"{process}/{kind}/{name}", target, below)
    for kind in ("cwd", "root", "exe"):
        yield from _read(f"{process}/{kind}", target, below)


def _read(link: str, target: str, below: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        path = os.readlink(link)
        if path == target or path.startswith(below):
            yield path


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"
