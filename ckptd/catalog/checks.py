"""When each copy was last read and found good: the scrub's memory over restarts."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ckptd.catalog.database import Database
from ckptd.catalog.rows import pack_crc, unpack_crc
from ckptd.domain.model import Place
from ckptd.policy.scrub import Check, Spot


class Checks:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def all(self) -> dict[Spot, Check]:
        rows = await self._db.read("SELECT volume, place, path, crc, at FROM checks")
        return {
            Spot(volume, Place(place), os.fsdecode(path)): Check(unpack_crc(crc), at)
            for volume, place, path, crc, at in rows
        }

    async def put(self, checks: Iterable[tuple[Spot, Check]]) -> None:
        await self._db.write_many(
            "INSERT OR REPLACE INTO checks (volume, place, path, crc, at) VALUES (?,?,?,?,?)",
            [
                (spot.volume, spot.place, os.fsencode(spot.path), pack_crc(check.crc), check.at)
                for spot, check in checks
            ],
        )

    async def forget_before(self, at: float) -> None:
        """Checks of copies that are long gone."""
        await self._db.write("DELETE FROM checks WHERE at < ?", (at,))
