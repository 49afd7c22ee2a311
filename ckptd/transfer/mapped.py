"""Checksums of mapped files, taken in a process that may die of it.

Where a file lies on huge pages (a tmpfs with huge=always), mapping it costs next to nothing, and its checksum comes at twice the
speed of a reader that copies. But touching a mapped page behind the end of a file that was truncated meanwhile is SIGBUS. So
the mover keeps a small child that maps, one for each of its threads; when it dies of SIGBUS the file has changed while it was
read, and another child is started for the next stretch. On small pages copying is as quick: there nothing is mapped.

On the child's socket: a stretch with the file's descriptor; back comes its checksum.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from awscrt.checksums import crc64nvme

from ckptd.transfer.reading import changed, checksum_of
from ckptd.transfer.refusal import LOCAL, Refusal, Refused

HUGE = 2 << 20
"""A tmpfs that gives its files huge pages says so in st_blksize (mm/shmem.c, shmem_getattr)."""
WINDOW = 16 << 20
"""Bytes mapped at a time, all faulted in at once; between two the mover may cancel."""
_ASKED = struct.Struct("!QQQ")
"""Offset, length, checksum of what came before."""
_TOLD = struct.Struct("!BQ")
"""One of the kinds below; the checksum, or an error number."""
_DONE, _FAILED, _SHORTER = range(3)
_BOOT = "import json,sys; sys.path[:]=json.loads(sys.argv.pop(1)); from ckptd.transfer.mapped import main; main()"
_PR_SET_NAME = 15
_PR_SET_PDEATHSIG = 1

_thread = threading.local()


class Truncated(Exception):
    """The file became shorter while it was read."""


def worth_mapping(descriptor: int, length: int) -> bool:
    status = os.fstat(descriptor)
    return length >= WINDOW and stat.S_ISREG(status.st_mode) and status.st_blksize >= HUGE


def checksum_at(descriptor: int, path: str, offset: int, length: int, check: Callable[[], None]) -> int:
    """As `reading.checksum_of`, mapped where that is quicker."""
    if not worth_mapping(descriptor, length):
        return checksum_of(descriptor, path, offset, length, check)
    try:
        return _reader().checksum(descriptor, offset, length, check)
    except Truncated:
        changed(path, "was truncated")


def _reader() -> Reader:
    """The one of this thread."""
    found: Reader | None = getattr(_thread, "reader", None)
    if found is None:
        found = _thread.reader = Reader()
    return found


class Reader:
    """The child of one thread, as the mover sees it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket
        self.deaths = 0
        """Children that SIGBUS has ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._ended()

    def checksum(self, descriptor: int, offset: int, length: int, check: Callable[[], None]) -> int:
        """CRC-64/NVME of a stretch. Raises Truncated, Refused; `check` may raise between windows."""
        crc, end = 0, offset + length
        while offset < end:
            check()
            # Huge pages begin at multiples of their size: the next window begins with one.
            count = min(WINDOW - offset % HUGE, end - offset)
            crc = self.ask(descriptor, offset, count, crc)
            offset += count
        return crc

    def ask(self, descriptor: int, offset: int, length: int, crc: int) -> int:
        if self._process is None:
            self._start()
        try:
            socket.send_fds(self._socket, [_ASKED.pack(offset, length, crc)], [descriptor])
            answer = self._socket.recv(_TOLD.size)
        except OSError:
            answer = b""
        if len(answer) != _TOLD.size:
            raise self._ended()
        kind, value = _TOLD.unpack(answer)
        if kind == _SHORTER:
            raise Truncated
        if kind == _FAILED:
            raise Refused(Refusal(LOCAL, f"mapping a file: {os.strerror(value)}"))
        return int(value)

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = json.dumps([entry or os.getcwd() for entry in sys.path])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, path, str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, close_fds=True,
            )  # fmt: skip

    def _ended(self) -> Exception:
        self._socket.close()
        status = 0 if self._process is None else self._process.wait()
        self._process = None
        if status == -signal.SIGBUS:
            self.deaths += 1
            return Truncated()
        return Refused(Refusal(LOCAL, f"the process that maps files ended with status {status}", retryable=True))


def serve(connection: socket.socket) -> None:
    """In the child, until the mover closes its end."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _ASKED.size, 1)
        if not message:
            return
        offset, length, before = _ASKED.unpack(message)
        try:
            answer = _TOLD.pack(_DONE, _checksum(descriptors[0], offset, length, before))
        except OSError as error:
            answer = _TOLD.pack(_FAILED, error.errno or 0)
        except ValueError:  # what Python's mmap says of a file that is shorter than what is to be mapped of it
            answer = _TOLD.pack(_SHORTER, 0)
        finally:
            os.close(descriptors[0])
        connection.send(answer)


def _checksum(descriptor: int, offset: int, length: int, crc: int) -> int:
    inside = offset % HUGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_POPULATE
    with mmap.mmap(descriptor, inside + length, flags, mmap.PROT_READ, offset=offset - inside) as found:
        view = memoryview(found)[inside:]
        try:
            return int(crc64nvme(view, crc))
        finally:
            view.release()


def main() -> None:
    """`argv`: the socket's descriptor, the mover's pid."""
    descriptor, parent = (int(argument) for argument in sys.argv[1:3])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NAME, b"ckptd-mapped", 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its death is no crash to be looked into
    if os.getppid() != parent:  # it died before the line above
        return
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    with suppress(OSError), socket.socket(fileno=descriptor) as connection:
        serve(connection)
    os._exit(0)
