"""Manifests known to be in the remote, and objects there that nothing describes any more."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence

from ckptd.catalog.database import Database
from ckptd.catalog.rows import ManifestRow


class Manifests:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def all(
        self, volume: str | None = None, run: str | None = None, step: int | None = None
    ) -> list[ManifestRow]:
        rows = await self._db.read(
            "SELECT volume, run, step, node, etag, committed_at, body, forgotten FROM manifests"
            " WHERE (?1 IS NULL OR volume = ?1) AND (?2 IS NULL OR run = ?2) AND (?3 IS NULL OR step = ?3)"
            " ORDER BY volume, run, step DESC, node",
            (volume, None if run is None else os.fsencode(run), step),
        )
        return [
            ManifestRow(v, os.fsdecode(r), s, node, etag, at, body, frozenset(json.loads(forgotten)))
            for v, r, s, node, etag, at, body, forgotten in rows
        ]

    async def put(self, row: ManifestRow) -> None:
        await self._db.write(
            "INSERT OR REPLACE INTO manifests (volume, run, step, node, etag, committed_at, body, forgotten)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (
                row.volume, os.fsencode(row.run), row.step, row.node, row.etag, row.committed_at, row.body,
                json.dumps(sorted(row.forgotten)),
            ),
        )  # fmt: skip

    async def forget_members(self, volume: str, run: str, step: int, keys: Iterable[str]) -> None:
        """The job deleted these files here: they stay in the remote, but are no members when it is written anew."""
        await self._change_forgotten(volume, run, step, lambda before: before | set(keys))

    async def recall_member(self, volume: str, run: str, step: int, key: str) -> None:
        """It is here again."""
        await self._change_forgotten(volume, run, step, lambda before: before - {key})

    async def _change_forgotten(
        self, volume: str, run: str, step: int, change: Callable[[frozenset[str]], frozenset[str]]
    ) -> None:
        async with self._db.transaction():
            for row in await self.all(volume, run, step):
                await self._db.write(
                    "UPDATE manifests SET forgotten = ? WHERE volume = ? AND run = ? AND step = ? AND node = ?",
                    (json.dumps(sorted(change(row.forgotten))), volume, os.fsencode(run), step, row.node),
                )

    async def delete(self, volume: str, run: str, step: int, node: str | None = None) -> None:
        await self._db.write(
            "DELETE FROM manifests WHERE volume = ? AND run = ? AND step = ? AND (?4 IS NULL OR node = ?4)",
            (volume, os.fsencode(run), step, node),
        )

    async def leftovers(self, volume: str, limit: int = 1000, after: str = "") -> list[str]:
        """In the order of the keys, those behind `after`."""
        rows = await self._db.read(
            "SELECT key FROM leftovers WHERE volume = ? AND key > ? ORDER BY key LIMIT ?", (volume, after, limit)
        )
        return [row[0] for row in rows]

    async def leave(self, volume: str, keys: Iterable[str]) -> None:
        await self._db.write_many("INSERT OR IGNORE INTO leftovers VALUES (?, ?)", [(volume, key) for key in keys])

    async def forget_leftovers(self, volume: str) -> None:
        await self._db.write("DELETE FROM leftovers WHERE volume = ?", (volume,))

    async def cleared(self, volume: str, keys: Sequence[str]) -> None:
        await self._db.write_many("DELETE FROM leftovers WHERE volume = ? AND key = ?", [(volume, key) for key in keys])
