"""The door before the API: takes connections from the listening socket, so many of one user and no more.

Without it a thousand idle connections of one user would use up the descriptors that everybody needs. Who has as many as one user
may have is told so and sent away; administrators never are. A connection on which nothing comes, or comes too slowly, is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import structlog

from ckptd.api.peers import UCRED, is_administrator
from ckptd.api.schemas import error_body
from ckptd.domain.errors import TooMuch

log = structlog.get_logger(__name__)

MOST = 32
"""Connections of one user at a time."""
IDLE_S = 20.0
"""How long a connection may be without a request that is being answered: while its head comes, and between two."""
_LOOK_S = 2.0
_LINGER_S = 1.0
_LINGERING = 64
"""Refused connections that are kept open for a second, so that their callers read why; others are just closed."""
_TROUBLE_S = 0.1


@dataclass(slots=True)
class _Guest:
    uid: int
    transport: asyncio.Transport
    idle_since: float
    busy: int = 0


class Gate:
    """`serves`: makes the protocol of a connection (`aiohttp.web.Server`)."""

    def __init__(
        self,
        listening: socket.socket,
        serves: Callable[[], asyncio.Protocol],
        *,
        most: int = MOST,
        idle_s: float = IDLE_S,
    ) -> None:
        self._listening = listening
        self._serves = serves
        self._most = most
        self._idle_s = idle_s
        self._guests: dict[asyncio.BaseTransport, _Guest] = {}
        self._lingering = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        self._listening.setblocking(False)
        with self._listening:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._accept())
                group.create_task(self._end_idle())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError as error:  # out of descriptors: the others go on, and some will be given back
                log.warning("api.cannot_accept", error=str(error))
                await asyncio.sleep(_TROUBLE_S)
                continue
            try:
                await self._let_in(connection)
            except OSError:  # it has left already
                connection.close()

    async def _let_in(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        uid = _uid_of(connection)
        if not is_administrator(uid, frozenset(), None) and len(self._of(uid)) >= self._most:
            self._refuse(connection, uid)
            return
        transport, _ = await loop.connect_accepted_socket(self._serves, connection)
        self._guests[transport] = _Guest(uid, transport, loop.time())

    def _of(self, uid: int) -> Collection[_Guest]:
        return [guest for guest in self._there() if guest.uid == uid]

    def _there(self) -> list[_Guest]:
        for transport in [transport for transport in self._guests if transport.is_closing()]:
            del self._guests[transport]
        return list(self._guests.values())

    def _refuse(self, connection: socket.socket, uid: int) -> None:
        error = TooMuch(f"user {uid} has {self._most} connections open already", hint="close some of them")
        body = error_body(error).model_dump_json().encode()
        head = (
            f"HTTP/1.1 {error.http_status} Too Many Requests\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            connection.send(head.encode() + body)
        if self._lingering >= _LINGERING:
            connection.close()
            return
        self._lingering += 1
        asyncio.get_running_loop().call_later(_LINGER_S, self._let_go, connection)

    def _let_go(self, connection: socket.socket) -> None:
        self._lingering -= 1
        connection.close()

    async def _end_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_LOOK_S, self._idle_s))
            for guest in self._there():
                if not guest.busy and loop.time() - guest.idle_since > self._idle_s:
                    guest.transport.abort()

    @contextlib.contextmanager
    def answering(self, transport: asyncio.BaseTransport | None) -> Iterator[None]:
        """A request of this connection is being answered."""
        guest = None if transport is None else self._guests.get(transport)
        if guest is None:
            yield
            return
        guest.busy += 1
        try:
            yield
        finally:
            guest.busy -= 1
            guest.idle_since = asyncio.get_running_loop().time()


def _uid_of(connection: socket.socket) -> int:
    """-1 where it is no Unix socket."""
    try:
        _, uid, _ = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    except (OSError, struct.error):
        return -1
    return int(uid)
