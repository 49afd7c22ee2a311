"""Who asks the server: JSON datagrams (AF_UNIX, SOCK_SEQPACKET), one end of a socketpair or whoever connects to a socket.

    {"op": "status"}                    -> what Server.status tells
    {"op": "invalidate", "paths": [..]} -> {"ok": true}; paths relative to the volume, as os.fsdecode gives them
    {"op": "fetcher"}                   -> {"ok": true}; from here on cold files are asked for here: {"fetch": path}
    {"op": "part", "path", "staged", "offset", "length"}  (no answer) checked bytes of a file that is being fetched, in `staged`
    {"op": "fetched", "path", "errno"}  (no answer) a fetch has ended; 0: the file is in its place
    {"op": "fsync", "asks": bool}  -> {"ok": true, "fsync_asks": bool}; true: from here on each fsync is asked for, as cold files
                                   are: {"fsync": id, "path", "directory": bool}; {"unsync": id} where its caller was interrupted
    {"op": "synced", "id", "errno"}  (no answer) what an fsync waits for is in the remote (0), or cannot be had there
    {"op": "stop"}                      -> {"ok": true}, and the server ends; the mount stays for the next one

A socketpair whose other end is closed means that the holder is gone, and the mount with it: the server ends. Of those who
connect (the daemon's worker, which may be killed and come back) each may come and go.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from typing import Any, Protocol

LONGEST = 1 << 16
_SENDS_S = 5.0
"""Whoever asks and does not read is given up."""


class Served(Protocol):
    def status(self) -> dict[str, Any]: ...

    def invalidate(self, path: bytes) -> None: ...

    def fetched(self, path: bytes, error: int) -> None: ...

    def partly(self, path: bytes, staged: bytes, offset: int, length: int) -> None: ...

    def synced(self, unique: int, error: int) -> None: ...

    def fsync_asks(self, asks: bool) -> None: ...

    def fetcher(self, control: Control) -> None: ...

    def left(self, control: Control) -> None: ...


class Control:
    """One connection. `holder`: the server ends when it does."""

    def __init__(self, connection: socket.socket, *, holder: bool) -> None:
        self.fd = connection.fileno()
        self.holder = holder
        self._socket = connection
        connection.settimeout(_SENDS_S)

    def handle(self, server: Served) -> bool | None:
        """One message. False when the server is to end, None when only this connection is over."""
        try:
            raw = self._socket.recv(LONGEST)
        except OSError:
            raw = b""
        if not raw:
            return False if self.holder else None
        try:
            message = json.loads(raw)
            answer = self._obey(server, message)
        except (ValueError, KeyError, TypeError) as error:
            answer, message = {"error": f"not understood: {error!r}"}, {}
        if answer is not None:
            self.send(answer)
        return bool(message.get("op") != "stop")

    def _obey(self, server: Served, message: dict[str, Any]) -> dict[str, Any] | None:
        op = message["op"]
        if op == "status":
            return server.status()
        if op == "fetched":
            server.fetched(os.fsencode(message["path"]), int(message["errno"]))
            return None
        if op == "part":
            path, staged = os.fsencode(message["path"]), os.fsencode(message["staged"])
            server.partly(path, staged, int(message["offset"]), int(message["length"]))
            return None
        if op == "synced":
            server.synced(int(message["id"]), int(message["errno"]))
            return None
        if op == "fsync":
            server.fsync_asks(bool(message["asks"]))
            return {"ok": True, "fsync_asks": bool(message["asks"])}
        if op == "invalidate":
            for path in message["paths"]:
                server.invalidate(os.fsencode(path))
        elif op == "fetcher":
            self.send({"ok": True})
            server.fetcher(self)
            return None
        return {"ok": op in {"invalidate", "stop"}}

    def send(self, what: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the next recv says the same
            self._socket.send(json.dumps(what).encode())

    def close(self) -> None:
        self._socket.close()


class Controls:
    """All connections, by descriptor."""

    def __init__(self, holder_fd: int | None = None, listen_fd: int | None = None) -> None:
        self._by_fd: dict[int, Control] = {}
        self._listening = None if listen_fd is None else socket.socket(fileno=listen_fd)
        if self._listening is not None:
            self._listening.setblocking(False)
        if holder_fd is not None:
            self._by_fd[holder_fd] = Control(socket.socket(fileno=holder_fd), holder=True)

    def fds(self) -> list[int]:
        return [*self._by_fd, *([] if self._listening is None else [self._listening.fileno()])]

    def readable(self, fd: int, server: Served, poller: select.poll) -> bool:
        """Somebody connects, asks or leaves. False when the server is to end."""
        control = self._by_fd.get(fd)
        if control is None:
            self._accept(poller)
            return True
        outcome = control.handle(server)
        if outcome is None:
            poller.unregister(fd)
            del self._by_fd[fd]
            control.close()
            server.left(control)
        return outcome is not False

    def _accept(self, poller: select.poll) -> None:
        assert self._listening is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = self._listening.accept()
            control = Control(connection, holder=False)
            self._by_fd[control.fd] = control
            poller.register(control.fd, select.POLLIN)
