"""The holder's end of the server: JSON datagrams over one end of a socketpair (AF_UNIX, SOCK_SEQPACKET).

    {"op": "status"}                    -> what Server.status tells
    {"op": "invalidate", "paths": [..]} -> {"ok": true}; paths relative to the volume, as os.fsdecode gives them
    {"op": "stop"}                      -> {"ok": true}, and the server ends; the mount stays for the next one

The other end closed means the holder is gone, and the mount with it: the server ends.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any, Protocol

LONGEST = 1 << 16


class Served(Protocol):
    def status(self) -> dict[str, Any]: ...

    def invalidate(self, path: bytes) -> None: ...


class Control:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._socket = socket.socket(fileno=fd)

    def handle(self, server: Served) -> bool:
        """One message. False when the server is to end."""
        raw = self._socket.recv(LONGEST)
        if not raw:
            return False
        try:
            message = json.loads(raw)
            op = message["op"]
            if op == "invalidate":
                for path in message["paths"]:
                    server.invalidate(os.fsencode(path))
        except (ValueError, KeyError, TypeError) as error:
            self._answer({"error": f"not understood: {error!r}"})
            return True
        self._answer(server.status() if op == "status" else {"ok": op in {"invalidate", "stop"}})
        return op != "stop"  # type: ignore[no-any-return]  # json gives Any

    def _answer(self, what: dict[str, Any]) -> None:
        try:
            self._socket.send(json.dumps(what).encode())
        except BrokenPipeError:
            return  # the next recv says the same
