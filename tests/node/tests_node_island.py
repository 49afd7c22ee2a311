"""A network namespace for one daemon, with nothing in it but a relay to the S3 server outside, which can be cut.

Inside, `127.0.0.1:PORT` is taken by a small process that hands each connection to a Unix socket (a name in the file system,
which namespaces share); outside, a thread takes it on to the server.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

PORT = 8333
_NUMBERS = itertools.count()


class Island:
    def __init__(self, home: Path, upstream_port: int | None = None) -> None:
        self.name = f"ckptd-{os.getpid()}-{next(_NUMBERS)}"
        self.upstream_port = upstream_port
        self._socket = str(home / f"{self.name}.sock")
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._cut = False
        self._relay: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None

    @property
    def prefix(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run([*self.prefix, "ip", "link", "set", "lo", "up"], check=True)
        if self.upstream_port is not None:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self._socket)
            self._listener.listen(64)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
            command = [*self.prefix, sys.executable, __file__, str(PORT), self._socket]
            self._relay = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert self._relay.stdout is not None
            assert self._relay.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
        self.cut()
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()
            assert self._relay.stdout is not None
            self._relay.stdout.close()
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def cut(self) -> None:
        """Nothing passes any more, and what is on its way is lost."""
        with self._lock:
            self._cut = True
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        with self._lock:
            self._cut = False

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket()
            with self._lock:
                if self._cut:
                    near.close()
                    far.close()
                    continue
                try:
                    far.connect(("127.0.0.1", self.upstream_port))
                except OSError:
                    near.close()
                    far.close()
                    continue
                self._open |= {near, far}
            threading.Thread(target=self._both, args=(near, far), daemon=True).start()

    def _both(self, near: socket.socket, far: socket.socket) -> None:
        join(near, far)
        with self._lock:
            self._open -= {near, far}


def join(near: socket.socket, far: socket.socket) -> None:
    """Passes bytes both ways until both ends are done, then closes both."""
    back = threading.Thread(target=_pass, args=(far, near), daemon=True)
    back.start()
    _pass(near, far)
    back.join()
    near.close()
    far.close()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while some := source.recv(1 << 16):
            target.sendall(some)
    for each, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            each.shutdown(how)


def _serve(port: int, path: str) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        near, _ = listener.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(path)
        except OSError:
            near.close()
            far.close()
            continue
        threading.Thread(target=join, args=(near, far), daemon=True).start()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])
