"""What was measured of saves, resumes and remotes. The newest are kept."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ckptd.catalog.database import Database
from ckptd.domain.history import Probe, Resume, Save
from ckptd.domain.model import Place

KEEP_OF_RUN = 1_000
KEEP = 20_000
"""Over all runs."""
KEEP_PROBES = 30
"""Of a volume."""


class History:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def saved(self, save: Save) -> None:
        """A step that is written again takes the place of what was measured of it before."""
        run = os.fsencode(save.run)
        async with self._db.transaction():
            await self._db.write(
                "INSERT OR REPLACE INTO saves (volume, run, step, began_at, ended_at, durable_at, bytes, copied)"
                " VALUES (?,?,?,?,?,?,?,?)",
                (
                    save.volume, run, save.step, save.began_at, save.ended_at, save.durable_at, save.bytes, save.copied,
                ),
            )  # fmt: skip
            await self._db.write(
                "DELETE FROM saves WHERE volume = ?1 AND run = ?2 AND step IN (SELECT step FROM saves"
                " WHERE volume = ?1 AND run = ?2 ORDER BY ended_at DESC LIMIT -1 OFFSET ?3)",
                (save.volume, run, KEEP_OF_RUN),
            )
            await self._db.write(
                "DELETE FROM saves WHERE ended_at < (SELECT ended_at FROM saves ORDER BY ended_at DESC LIMIT 1 OFFSET ?)",
                (KEEP - 1,),
            )

    async def _saves(self, rest: str, arguments: Sequence[object]) -> list[Save]:
        rows = await self._db.read(
            f"SELECT volume, run, step, began_at, ended_at, bytes, durable_at, copied FROM saves {rest}",  # noqa: S608 - fixed text
            arguments,
        )
        return [Save(row[0], os.fsdecode(row[1]), *row[2:]) for row in rows]

    async def saves(self, volume: str, run: str) -> list[Save]:
        """By their ends."""
        return await self._saves("WHERE volume = ? AND run = ? ORDER BY ended_at", (volume, os.fsencode(run)))

    async def save(self, volume: str, run: str, step: int) -> Save | None:
        found = await self._saves("WHERE volume = ? AND run = ? AND step = ?", (volume, os.fsencode(run), step))
        return found[0] if found else None

    async def last(self, volume: str) -> list[Save]:
        """The last two (or one) of the run that saved last."""
        newest = await self._saves("WHERE volume = ? ORDER BY ended_at DESC LIMIT 1", (volume,))
        if not newest:
            return []
        its = (volume, os.fsencode(newest[0].run))
        return list(reversed(await self._saves("WHERE volume = ? AND run = ? ORDER BY ended_at DESC LIMIT 2", its)))

    async def durable_until(self, volume: str) -> float:
        """When this node's newest manifest was written; 0: none is known."""
        rows = await self._db.read("SELECT max(durable_at) FROM saves WHERE volume = ?", (volume,))
        return float(rows[0][0] or 0.0)

    async def resumed(self, resume: Resume, *, id_: int | None = None) -> int:
        """`id_`: more of one that was recorded, which it replaces."""
        last = await self._db.write(
            "INSERT OR REPLACE INTO resumes (id, volume, run, step, began_at, ended_at, bytes, fetched, tier, by)"
            " VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                id_, resume.volume, os.fsencode(resume.run), resume.step, resume.began_at, resume.ended_at, resume.bytes,
                resume.fetched, resume.tier, resume.by,
            ),
        )  # fmt: skip
        await self._db.write("DELETE FROM resumes WHERE id <= ?", (last - KEEP,))
        return last

    async def resumes(self, volume: str, run: str) -> list[Resume]:
        rows = await self._db.read(
            "SELECT volume, run, step, began_at, ended_at, bytes, fetched, tier, by FROM resumes"
            " WHERE volume = ? AND run = ? ORDER BY id DESC LIMIT ?",
            (volume, os.fsencode(run), KEEP_OF_RUN),
        )
        return [
            Resume(volume, os.fsdecode(run), step, began, ended, size, fetched, Place(tier), by)
            for volume, run, step, began, ended, size, fetched, tier, by in reversed(rows)
        ]

    async def probed(self, probe: Probe) -> None:
        async with self._db.transaction():
            await self._db.write(
                "INSERT OR REPLACE INTO probes (volume, at, bytes, write_s, read_s) VALUES (?,?,?,?,?)",
                (probe.volume, probe.at, probe.bytes, probe.write_s, probe.read_s),
            )
            await self._db.write(
                "DELETE FROM probes WHERE volume = ?1 AND at IN"
                " (SELECT at FROM probes WHERE volume = ?1 ORDER BY at DESC LIMIT -1 OFFSET ?2)",
                (probe.volume, KEEP_PROBES),
            )

    async def probe(self, volume: str) -> Probe | None:
        """The last one."""
        rows = await self._db.read(
            "SELECT volume, at, bytes, write_s, read_s FROM probes WHERE volume = ? ORDER BY at DESC LIMIT 1", (volume,)
        )
        return Probe(*rows[0]) if rows else None

    async def forget_run(self, volume: str, run: str) -> None:
        its = (volume, os.fsencode(run))
        async with self._db.transaction():
            await self._db.write("DELETE FROM saves WHERE volume = ? AND run = ?", its)
            await self._db.write("DELETE FROM resumes WHERE volume = ? AND run = ?", its)

    async def another_remote(self, volume: str) -> None:
        """What was measured of the old one says nothing about the new one."""
        await self._db.write("DELETE FROM probes WHERE volume = ?", (volume,))
