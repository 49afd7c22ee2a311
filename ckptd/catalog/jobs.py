"""Which jobs of the scheduler wrote which runs."""

from __future__ import annotations

import os

from ckptd.catalog.database import Database
from ckptd.domain.launch import Job, JobRun, printable_name

KEPT = 1_000
"""Of each user, the newest: nobody's flood of jobs costs another user anything."""


class Jobs:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def wrote(self, found: JobRun) -> None:
        job = found.job
        async with self._db.transaction():
            await self._db.write(
                "INSERT OR REPLACE INTO jobs (volume, run, job, uid, name, task, at) VALUES (?,?,?,?,?,?,?)",
                (found.volume, os.fsencode(found.run), job.id, job.uid, job.name, job.task, found.at),
            )
            await self._db.write(
                "DELETE FROM jobs WHERE rowid IN"
                " (SELECT rowid FROM jobs WHERE uid = ? ORDER BY at DESC LIMIT -1 OFFSET ?)",
                (job.uid, KEPT),
            )

    async def of_run(self, volume: str, run: str) -> Job | None:
        """The one that wrote it last."""
        rows = await self._db.read(
            "SELECT job, uid, name, task FROM jobs WHERE volume = ? AND run = ? ORDER BY at DESC LIMIT 1",
            (volume, os.fsencode(run)),
        )
        return _job(*rows[0]) if rows else None

    async def of_user(self, uid: int) -> list[JobRun]:
        """The last written first."""
        rows = await self._db.read(
            "SELECT volume, run, job, uid, name, task, at FROM jobs WHERE uid = ? ORDER BY at DESC", (uid,)
        )
        return [JobRun(volume, os.fsdecode(run), _job(*job), at) for volume, run, *job, at in rows]


def _job(number: int, uid: int, name: str, task: int | None) -> Job:
    """Earlier daemons recorded names as they came."""
    return Job(number, uid, printable_name(name), task)
