"""Where transfers remember what is done, so that a killed daemon goes on where it was (the catalog implements it)."""

from __future__ import annotations

from typing import Protocol

from ckptd.domain.model import PartDone, Unfinished

__all__ = ["Journal", "PartDone", "Unfinished"]


class Journal(Protocol):
    async def load(self, key: str) -> Unfinished | None: ...

    async def begin(self, key: str, unfinished: Unfinished) -> None:
        """Replaces whatever was known under `key`."""
        ...

    async def part_done(self, key: str, part: PartDone) -> None: ...

    async def forget(self, key: str) -> None: ...
