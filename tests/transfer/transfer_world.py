"""The journal, the bytes and the stamps the tests of this folder share."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

from ckptd.domain.model import Stamp
from ckptd.transfer.journal import PartDone, Unfinished

PART = 1 << 20


class MemoryJournal:
    """What the catalog does in SQLite; also counts, so that a test can tell what was sent again."""

    def __init__(self) -> None:
        self.known: dict[str, Unfinished] = {}
        self.parts_done = 0

    async def load(self, key: str) -> Unfinished | None:
        return self.known.get(key)

    async def begin(self, key: str, unfinished: Unfinished) -> None:
        self.known[key] = unfinished

    async def part_done(self, key: str, part: PartDone) -> None:
        self.parts_done += 1
        old = self.known[key]
        others = tuple(each for each in old.parts if each.number != part.number)
        self.known[key] = replace(old, parts=tuple(sorted((*others, part), key=lambda each: each.number)))

    async def forget(self, key: str) -> None:
        self.known.pop(key, None)


def stamp_of(path: Path) -> Stamp:
    status = os.stat(path)
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


class FileJournal(MemoryJournal):
    """Keeps itself in a file, for the tests in which a whole process is killed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists():
            for key, (upload_id, part_size, size, parts, detail) in json.loads(path.read_text()).items():
                done = tuple(PartDone(*part) for part in parts)
                self.known[key] = Unfinished(upload_id, part_size, size, done, detail)

    async def begin(self, key: str, unfinished: Unfinished) -> None:
        await super().begin(key, unfinished)
        self._save()

    async def part_done(self, key: str, part: PartDone) -> None:
        await super().part_done(key, part)
        self._save()

    async def forget(self, key: str) -> None:
        await super().forget(key)
        self._save()

    def _save(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({key: astuple(value) for key, value in self.known.items()}))
        fresh.rename(self._path)


async def until(condition: Callable[[], bool]) -> None:
    """Polls; the test's own time limit ends a condition that never comes true."""
    while not condition():
        await asyncio.sleep(0.005)
