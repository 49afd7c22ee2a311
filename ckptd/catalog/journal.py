"""Progress of transfers, so that a killed daemon goes on where it was."""

from __future__ import annotations

from ckptd.catalog.database import Database
from ckptd.catalog.rows import pack_crc, unpack_crc
from ckptd.domain.model import PartDone, Unfinished


class Journal:
    """Implements `ckptd.transfer.journal.Journal`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def load(self, key: str) -> Unfinished | None:
        head = await self._db.read("SELECT upload_id, part_size, size, detail FROM unfinished WHERE key = ?", (key,))
        if not head:
            return None
        upload_id, part_size, size, detail = head[0]
        rows = await self._db.read(
            "SELECT number, size, tag, crc FROM unfinished_parts WHERE key = ? ORDER BY number", (key,)
        )
        parts = tuple(PartDone(number, length, tag, unpack_crc(crc)) for number, length, tag, crc in rows)
        return Unfinished(upload_id, part_size, size, parts, detail)

    async def begin(self, key: str, unfinished: Unfinished) -> None:
        async with self._db.transaction():
            await self.forget(key)
            await self._db.write(
                "INSERT INTO unfinished VALUES (?,?,?,?,?)",
                (key, unfinished.upload_id, unfinished.part_size, unfinished.size, unfinished.detail),
            )
            for part in unfinished.parts:
                await self.part_done(key, part)

    async def part_done(self, key: str, part: PartDone) -> None:
        await self._db.write(
            "INSERT OR REPLACE INTO unfinished_parts VALUES (?,?,?,?,?)",
            (key, part.number, part.size, part.tag, pack_crc(part.crc64nvme)),
        )

    async def forget(self, key: str) -> None:
        await self._db.write("DELETE FROM unfinished WHERE key = ?", (key,))

    async def keys(self) -> list[str]:
        return [row[0] for row in await self._db.read("SELECT key FROM unfinished")]
