"""Tags: names of steps, as the remote last told them and as they are still to be told to it."""

from __future__ import annotations

import os

from ckptd.catalog.database import Database
from ckptd.catalog.rows import TagRow

_COLUMNS = "volume, run, name, step, node, at, etag"


class Tags:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def all(self, volume: str | None = None, run: str | None = None) -> list[TagRow]:
        """By volume, run and name; those that are deleted, but not yet in the remote, too (step None)."""
        rows = await self._db.read(
            f"SELECT {_COLUMNS} FROM tags WHERE (?1 IS NULL OR volume = ?1) AND (?2 IS NULL OR run = ?2)"  # noqa: S608 - fixed text
            " ORDER BY volume, run, name",
            (volume, None if run is None else os.fsencode(run)),
        )
        return [TagRow(v, os.fsdecode(r), name, step, node, at, etag) for v, r, name, step, node, at, etag in rows]

    async def get(self, volume: str, run: str, name: str) -> TagRow | None:
        return next((row for row in await self.all(volume, run) if row.name == name), None)

    async def put(self, row: TagRow) -> None:
        await self._db.write(
            f"INSERT OR REPLACE INTO tags ({_COLUMNS}) VALUES (?,?,?,?,?,?,?)",  # noqa: S608 - fixed text
            (row.volume, os.fsencode(row.run), row.name, row.step, row.node, row.at, row.etag),
        )

    async def replace(self, before: TagRow | None, after: TagRow) -> bool:
        """Records what the remote said, unless the tag is not what it was when the remote was asked."""
        async with self._db.transaction():
            if await self.get(after.volume, after.run, after.name) != before:
                return False
            await self.put(after)
            return True

    async def forget(self, row: TagRow) -> None:
        """Unless it was set anew since `row` was read."""
        await self._db.write(
            "DELETE FROM tags WHERE volume = ? AND run = ? AND name = ? AND step IS ? AND at = ? AND etag IS ?",
            (row.volume, os.fsencode(row.run), row.name, row.step, row.at, row.etag),
        )

    async def another_remote(self, volume: str) -> None:
        """The new remote is told the tags of what lies here; the others named checkpoints of the old one."""
        async with self._db.transaction():
            await self._db.write(
                "DELETE FROM tags WHERE volume = ? AND (step IS NULL OR NOT EXISTS (SELECT 1 FROM files f"
                " WHERE f.volume = tags.volume AND f.run = tags.run AND f.step = tags.step))",
                (volume,),
            )
            await self._db.write("UPDATE tags SET etag = NULL WHERE volume = ?", (volume,))
