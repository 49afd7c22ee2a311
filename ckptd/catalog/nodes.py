"""What is known of the other nodes that write a checkpoint: how its job was launched, and manifests that went."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ckptd.catalog.database import Database
from ckptd.domain.launch import Launch


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A manifest that was there and is not any more."""

    written_at: float
    """When the content was written that it described."""
    ours: bool
    """This node took it back, to write the step anew; else another node did."""


class Nodes:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def launches(self) -> dict[tuple[str, str, int], Launch]:
        rows = await self._db.read("SELECT volume, run, step, nodes, ranks, ranks_here, launcher FROM launches")
        return {
            (v, os.fsdecode(r), step): Launch(nodes, ranks, here, by) for v, r, step, nodes, ranks, here, by in rows
        }

    async def launched(self, volume: str, run: str, step: int, launch: Launch) -> None:
        await self._db.write(
            "INSERT OR REPLACE INTO launches (volume, run, step, nodes, ranks, ranks_here, launcher) VALUES (?,?,?,?,?,?,?)",
            (volume, os.fsencode(run), step, launch.nodes, launch.ranks, launch.ranks_here, launch.by),
        )

    async def withdrawals(self) -> dict[tuple[str, str, int], dict[str, Withdrawal]]:
        """By node."""
        found: dict[tuple[str, str, int], dict[str, Withdrawal]] = {}
        for volume, run, step, node, written_at, ours in await self._db.read(
            "SELECT volume, run, step, node, written_at, ours FROM withdrawn"
        ):
            found.setdefault((volume, os.fsdecode(run), step), {})[node] = Withdrawal(written_at, bool(ours))
        return found

    async def withdrew(self, volume: str, run: str, step: int, went: Mapping[str, Withdrawal]) -> None:
        await self._db.write_many(
            "INSERT OR REPLACE INTO withdrawn (volume, run, step, node, written_at, ours) VALUES (?,?,?,?,?,?)",
            [(volume, os.fsencode(run), step, node, one.written_at, one.ours) for node, one in went.items()],
        )

    async def forget(self, volume: str, run: str, step: int) -> None:
        """The checkpoint is gone from this node."""
        its = (volume, os.fsencode(run), step)
        async with self._db.transaction():
            await self._db.write("DELETE FROM withdrawn WHERE volume = ? AND run = ? AND step = ?", its)
            await self._db.write("DELETE FROM launches WHERE volume = ? AND run = ? AND step = ?", its)

    async def another_remote(self, volume: str) -> None:
        await self._db.write("DELETE FROM withdrawn WHERE volume = ?", (volume,))
