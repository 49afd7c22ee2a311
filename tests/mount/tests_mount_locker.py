"""A process that takes locks when it is told to: one command a line, one answer a line.

lock exclusive|shared  start length    held, or refused (of a kind that is given at the start: flock, fcntl, ofd)
wait exclusive|shared  start length    held, as soon as it can be
free start length                      free
who start length                       the process that holds it (fcntl)
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys

FLOCK = struct.Struct("hhqqi4x")
"""struct flock of 64-bit machines: type whence start len pid"""
F_OFD_SETLK, F_OFD_SETLKW = 37, 38
TYPES = {"shared": fcntl.F_RDLCK, "exclusive": fcntl.F_WRLCK, "free": fcntl.F_UNLCK}


def take(fd: int, kind: str, way: str, start: int, length: int, *, wait: bool) -> None:
    if kind == "flock":
        operation = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX, "free": fcntl.LOCK_UN}[way]
        fcntl.flock(fd, operation | (0 if wait or way == "free" else fcntl.LOCK_NB))
        return
    command = (F_OFD_SETLKW if wait else F_OFD_SETLK) if kind == "ofd" else (fcntl.F_SETLKW if wait else fcntl.F_SETLK)
    fcntl.fcntl(fd, command, FLOCK.pack(TYPES[way], os.SEEK_SET, start, length, 0))


def main() -> None:
    path, kind = sys.argv[1:]
    fd = os.open(path, os.O_RDWR)
    print("open", flush=True)
    for line in sys.stdin:
        what, *words = line.split()
        start, length = map(int, words[-2:])
        if what == "who":
            found = FLOCK.unpack(
                fcntl.fcntl(fd, fcntl.F_GETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
            )
            print(found[4] if found[0] != fcntl.F_UNLCK else 0, flush=True)
            continue
        try:
            take(fd, kind, "free" if what == "free" else words[0], start, length, wait=what == "wait")
            print("free" if what == "free" else "held", flush=True)
        except BlockingIOError:
            print("refused", flush=True)


if __name__ == "__main__":
    main()
