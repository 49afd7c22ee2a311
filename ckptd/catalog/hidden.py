"""Objects that no manifest describes, and that a job has deleted here."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ckptd.catalog.database import Database


class Hidden:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def all(self, volume: str) -> dict[str, str]:
        """Versions by path."""
        rows = await self._db.read("SELECT path, etag FROM hidden WHERE volume = ?", (volume,))
        return {os.fsdecode(path): etag for path, etag in rows}

    async def add(self, volume: str, path: str, etag: str) -> None:
        await self._db.write("INSERT OR REPLACE INTO hidden VALUES (?, ?, ?)", (volume, os.fsencode(path), etag))

    async def forget(self, volume: str, paths: Iterable[str]) -> None:
        values = [(volume, os.fsencode(path)) for path in paths]
        await self._db.write_many("DELETE FROM hidden WHERE volume = ? AND path = ?", values)
