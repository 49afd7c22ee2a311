"""Requests that wait, for a cold file or for a lease of the daemon to end. Each is kept as it came and handled again."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ckptd.fronts.mount.channel import Request

LEASE_MS = 2
"""How often a file is tried on which the daemon has a lease. It holds one while it exchanges a name, which is quick."""


class Waiting:
    def __init__(self) -> None:
        self._files: dict[bytes, dict[int, bytes]] = {}
        """By path: messages by their unique id."""
        self._leases: dict[int, bytes] = {}
        self._try_at = 0.0

    def __len__(self) -> int:
        return len(self._leases) + sum(map(len, self._files.values()))

    def for_file(self, path: bytes, request: Request, message: memoryview) -> bool:
        """True for the first who waits for this file."""
        first = path not in self._files
        self._files.setdefault(path, {})[request.unique] = bytes(message)
        return first

    def files(self) -> list[bytes]:
        return list(self._files)

    def for_lease(self, request: Request, message: memoryview) -> None:
        self._leases[request.unique] = bytes(message)
        self._try_at = time.monotonic() + LEASE_MS / 1000

    def arrived(self, path: bytes) -> Iterator[memoryview]:
        for message in self._files.pop(path, {}).values():
            yield memoryview(message)

    def timeout_ms(self) -> int | None:
        return LEASE_MS if self._leases else None

    def due(self) -> list[memoryview]:
        if not self._leases or time.monotonic() < self._try_at:
            return []
        messages = [memoryview(message) for message in self._leases.values()]
        self._leases.clear()
        return messages

    def withdraw(self, unique: int) -> memoryview | None:
        for waiting in (self._leases, *self._files.values()):
            if (message := waiting.pop(unique, None)) is not None:
                return memoryview(message)
        return None
