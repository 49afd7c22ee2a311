"""What a process does in a directory, in the order in which it does it: ckptd's own watch front, written down.

The front reports no directories and lists one that is new; files found by such a list are put in the order of their
modification. `replay` says which files a list of events leaves behind, so that a recording can be held against the disk.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from ckptd.domain.changes import Change, Deleted, Moved, Scanned, Settled
from ckptd.fronts.watch import WatchFront
from ckptd.tiers.lease import has_writer

Event = list[str]
Look = tuple[int, int, int]
"""Inode, time of modification, size."""


class Watching:
    """`async with Watching(volume) as seen:` … afterwards `seen.events` is complete."""

    def __init__(self, volume: Path) -> None:
        self.events: list[Event] = []
        self._volume = volume
        self._looks: dict[str, Look | None] = {}
        self._directories: set[str] = set()
        self._front = WatchFront(str(volume), None, self._take)

    async def __aenter__(self) -> Self:
        await self._front.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._front.caught_up()
        await self._front.stop()

    def _take(self, change: Change) -> None:
        match change:
            case Settled(path):
                self._settled(path)
            case Moved(source, destination, _):
                self._moved(source, destination)
            case Deleted(path, _):
                self._forget(path)
                self.events.append(["delete", path])
            case Scanned(_, paths, _):
                for path in sorted(paths, key=self._changed_at):
                    if has_writer(str(self._volume / path)) is not True:
                        self._settled(path)

    def _changed_at(self, path: str) -> int:
        found = self._look(path)
        return found[1] if found else 0

    def _look(self, path: str) -> Look | None:
        try:
            found = (self._volume / path).lstat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _settled(self, path: str) -> None:
        """None in `_looks`: it was renamed before it could be looked at, and has its look from the first one after."""
        found = self._look(path)
        if path in self._looks:
            known, self._looks[path] = self._looks[path], found
            if None in {found, known} or found == known:
                return
        self._looks[path] = found
        self._above(path)
        if not (self._volume / path).is_symlink():
            self.events.append(["write", path])
            return
        event = ["link", path, os.readlink(self._volume / path)]
        if self.events and self.events[-1][0] == "rename" and self.events[-1][2] == path:
            event[1] = self.events[-1][1]  # made under the other name, which was gone when we looked
            self.events.insert(-1, event)
        else:
            self.events.append(event)

    def _moved(self, source: str, destination: str) -> None:
        self._above(destination)
        looks = {path: look for path, look in self._looks.items() if _below(path, source)}
        self._forget(destination)
        self._forget(source)
        for path, look in looks.items():
            self._looks[destination + path[len(source) :]] = look
        if (self._volume / destination).is_dir():
            self._directories.add(destination)
        self.events.append(["rename", source, destination])

    def _above(self, path: str) -> None:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            directory = "/".join(parts[:depth])
            if directory not in self._directories:
                self._directories.add(directory)
                self.events.append(["mkdir", directory])

    def _forget(self, path: str) -> None:
        self._looks = {known: look for known, look in self._looks.items() if not _below(known, path)}
        self._directories = {known for known in self._directories if not _below(known, path)}


def replay(events: list[Event]) -> set[str]:
    """The files (and links) that are there in the end."""
    there: set[str] = set()
    for kind, path, *rest in events:
        if kind in {"write", "link"}:
            there.add(path)
        elif kind == "delete":
            there = {known for known in there if not _below(known, path)}
        elif kind == "rename":
            moved = {known for known in there if _below(known, path)}
            there = {known for known in there - moved if not _below(known, rest[0])}
            there |= {rest[0] + known[len(path) :] for known in moved}
    return there


def _below(path: str, above: str) -> bool:
    return path == above or path.startswith(above + "/")
