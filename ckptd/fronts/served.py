"""The worker's end of a mount: asks its server how it fares, and is asked for cold files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ckptd.engine.hydrating import OnPart
from ckptd.engine.volume import Serving

_LONGEST = 1 << 16
_AGAIN_S = 0.2
"""Between two tries to reach a server that is just being started again."""
_ASKED_S = 5.0
"""How often it is asked how it fares."""


class Served:
    """`bring` gets the path of each cold file that a job opens, once while it is waited for, and gives an errno or 0. `wants`
    gets the bytes that a writer waits for, and for how many seconds it will. `replaced` is called when another server is there.
    `sync` gets the path of each file (True: directory) whose fsync may wait for the remote, and gives an errno or 0; it is
    cancelled where nobody waits any more. `fsync_asks` says whether any may.
    """

    def __init__(
        self, socket_path: str, bring: Callable[[str, OnPart], Awaitable[int]], told: Callable[[Serving], None],
        wants: Callable[[int, float], None], replaced: Callable[[], None], sync: Callable[[str, bool], Awaitable[int]],
        fsync_asks: Callable[[], Awaitable[bool]],
    ) -> None:  # fmt: skip
        self._path = socket_path
        self._bring = bring
        self._told = told
        self._wants = wants
        self._replaced = replaced
        self._met = False
        """A server was there: the next one takes its place."""
        self._sync = sync
        self._fsync_asks = fsync_asks
        self._agreed = asyncio.Event()
        self._syncing: dict[int, asyncio.Task[None]] = {}
        self._connection: socket.socket | None = None
        self._bringing: set[str] = set()

    async def run(self) -> None:
        """Until it is cancelled: a server that goes comes back."""
        async with asyncio.TaskGroup() as group:
            while True:
                with contextlib.suppress(OSError):
                    await self._converse(group)
                await asyncio.sleep(_AGAIN_S)

    async def _converse(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        ) as connection:
            await loop.sock_connect(connection, self._path)
            if self._met:
                self._replaced()
            self._met = True
            self._connection = connection
            asking = group.create_task(self._ask(connection))
            try:
                await self._tell_fsync()
                await self._send({"op": "fetcher"})
                while raw := await loop.sock_recv(connection, _LONGEST):
                    self._heard(group, json.loads(raw))
            finally:
                self._connection = None
                asking.cancel()
                for task in self._syncing.values():  # the next server asks anew
                    task.cancel()

    async def _ask(self, connection: socket.socket) -> None:
        while connection is self._connection:
            await self._send({"op": "status"})
            await asyncio.sleep(_ASKED_S)

    async def _tell_fsync(self) -> None:
        await self._send({"op": "fsync", "asks": await self._fsync_asks()})

    async def agree(self) -> None:
        """Returns when the server knows whether fsync may have to wait, or where it does not answer."""
        self._agreed.clear()
        await self._tell_fsync()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._agreed.wait(), _ASKED_S)

    async def end(self) -> None:
        """Has the server end; the supervisor starts another, which goes on where this one was."""
        await self._send({"op": "stop"})

    def _heard(self, group: asyncio.TaskGroup, message: Mapping[str, Any]) -> None:
        if "fetch" in message:
            path = message["fetch"]
            if path not in self._bringing:
                self._bringing.add(path)
                group.create_task(self._fetch(group, path))
        elif "room" in message:
            self._wants(int(message["room"]), float(message["seconds"]))
        elif "fsync" in message:
            task = group.create_task(self._synced(message["fsync"], message["path"], bool(message["directory"])))
            self._syncing[message["fsync"]] = task
        elif "unsync" in message:
            if (waited := self._syncing.get(message["unsync"])) is not None:
                waited.cancel()
        elif "fsync_asks" in message:
            self._agreed.set()
        elif "requests" in message:
            refused = message["passthrough_refused"] or ""
            self._told(Serving(bool(message["passthrough"]), refused, tuple(message["mediated_because"])))

    async def _fetch(self, group: asyncio.TaskGroup, path: str) -> None:
        def arrived(staged: str, offset: int, length: int) -> None:
            part = {"op": "part", "path": path, "staged": staged, "offset": offset, "length": length}
            group.create_task(self._send(part))

        try:
            error = await self._bring(path, arrived)
        finally:
            self._bringing.discard(path)
        await self._send({"op": "fetched", "path": path, "errno": error})

    async def _synced(self, unique: int, path: str, directory: bool) -> None:
        task = asyncio.current_task()
        try:
            error = await self._sync(path, directory)
            await self._send({"op": "synced", "id": unique, "errno": error})
        finally:
            if self._syncing.get(unique) is task:
                del self._syncing[unique]

    async def _send(self, what: Mapping[str, Any]) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):  # the reader notices too
                await asyncio.get_running_loop().sock_sendall(self._connection, json.dumps(what).encode())
