"""Requests that wait: for a cold file, for a lease of the daemon to end, for room in a tier, for the remote.

Each is kept as it came, and handled again; those that wait for the remote are answered then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from ckptd.fronts.mount.channel import Request
from ckptd.fronts.mount.context import Syncing

LEASE_MS = 2
"""How often a file is tried on which the daemon has a lease. It holds one while it exchanges a name, which is quick."""


ROOM_MS = 20
"""How often it is looked whether there is room by now."""


class Waiting:
    def __init__(self) -> None:
        self._files: dict[bytes, dict[int, bytes]] = {}
        """By path: messages by their unique id."""
        self._leases: dict[int, bytes] = {}
        self._try_at = 0.0
        self._room: dict[int, tuple[bytes, float]] = {}
        """Messages, and until when each waits."""
        self._look_at = 0.0
        self._remote: dict[int, tuple[bytes, Syncing]] = {}

    def __len__(self) -> int:
        return len(self._remote) + len(self._leases) + len(self._room) + sum(map(len, self._files.values()))

    def for_file(self, path: bytes, request: Request, message: memoryview) -> None:
        self._files.setdefault(path, {})[request.unique] = bytes(message)

    def want(self, path: bytes) -> bool:
        """The file is wanted. True for the first who wants it."""
        first = path not in self._files
        self._files.setdefault(path, {})
        return first

    def files(self) -> list[bytes]:
        return list(self._files)

    def wants(self, path: bytes) -> bool:
        return path in self._files

    def for_lease(self, request: Request, message: memoryview) -> None:
        self._leases[request.unique] = bytes(message)
        self._try_at = time.monotonic() + LEASE_MS / 1000

    def for_room(self, request: Request, message: memoryview, until: float) -> None:
        """`until`: by the monotonic clock; then it is to be handled in another way."""
        self._look_at = time.monotonic() + ROOM_MS / 1000
        self._room[request.unique] = bytes(message), until

    def for_remote(self, request: Request, message: memoryview, wanted: Syncing) -> None:
        self._remote[request.unique] = bytes(message), wanted

    def remote(self) -> list[tuple[int, Syncing]]:
        """Unique ids, and what each waits for."""
        return [(unique, wanted) for unique, (_, wanted) in self._remote.items()]

    def synced(self, unique: int) -> memoryview | None:
        """The request, which does not wait any more; None: it has not waited, or somebody has ended that."""
        waited = self._remote.pop(unique, None)
        return None if waited is None else memoryview(waited[0])

    def arrived(self, path: bytes) -> Iterator[memoryview]:
        for message in self._files.pop(path, {}).values():
            yield memoryview(message)

    def partly(self, path: bytes) -> list[memoryview]:
        """A part has come: those who wait may find what they want. The file goes on being wanted."""
        messages = [memoryview(message) for message in self._files[path].values()]
        self._files[path].clear()
        return messages

    def timeout_ms(self) -> int | None:
        if self._leases:
            return LEASE_MS
        return ROOM_MS if self._room else None

    def due(self) -> list[memoryview]:
        if not self._leases or time.monotonic() < self._try_at:
            return []
        messages = [memoryview(message) for message in self._leases.values()]
        self._leases.clear()
        return messages

    def due_for_room(self) -> list[tuple[memoryview, float]]:
        """Messages to be tried again, and until when each may wait."""
        if not self._room or time.monotonic() < self._look_at:
            return []
        messages = [(memoryview(message), until) for message, until in self._room.values()]
        self._room.clear()
        return messages

    def withdraw(self, unique: int) -> memoryview | None:
        for waiting in (self._leases, *self._files.values()):
            if (message := waiting.pop(unique, None)) is not None:
                return memoryview(message)
        waited = self._room.pop(unique, None)
        return None if waited is None else memoryview(waited[0])
