"""What an engine would know of it from the front's reports alone."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable

from ckptd.domain.changes import Change, Deleted, Lost, Moved, ObjectSettled, Opened, Scanned, Settled, Touched, Trouble
from ckptd.fronts.watch import WatchFront

Entry = tuple[str, int, int]


def look(root: str, path: str) -> Entry | None:
    """Kind, inode and size of a regular file or a link."""
    try:
        found = os.lstat(os.path.join(root, path))
    except OSError:
        return None
    if stat.S_ISLNK(found.st_mode):
        return "link", found.st_ino, 0
    return ("file", found.st_ino, found.st_size) if stat.S_ISREG(found.st_mode) else None


def contents(root: str) -> dict[str, Entry]:
    """What is really there."""
    found = {}
    for above, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = os.path.relpath(os.path.join(above, name), root)
            entry = look(root, path)
            if entry is not None and not any(part.startswith(".ckptd-") for part in path.split("/")):
                found[path] = entry
    return found


class Watched:
    """A front and what its reports amount to: each is followed by one look at the paths it names, nothing else."""

    def __init__(self, root: str, objects: str | None = None, **options: float) -> None:
        self.root = root
        self.changes: list[Change] = []
        self.known: dict[str, Entry] = {}
        self.front = WatchFront(root, objects, self.take, **options)
        self._news = asyncio.Event()

    def take(self, change: Change) -> None:
        self.changes.append(change)
        self._news.set()
        match change:
            case Opened(path) | Settled(path) | Touched(path):
                self._look(path)
            case Moved(source, destination, directory):
                self._move(source, destination, directory=directory)
            case Deleted(path, directory):
                self._drop(path, directory=directory)
            case Scanned(root, paths, complete):
                for path in paths:
                    self._look(path)
                if complete:
                    for path in [path for path in self.known if _below(path, root) and path not in set(paths)]:
                        del self.known[path]
            case ObjectSettled() | Lost() | Trouble():
                pass

    def _look(self, path: str) -> None:
        entry = look(self.root, path)
        if entry is not None:
            self.known[path] = entry

    def _drop(self, path: str, *, directory: bool) -> None:
        for inside in [inside for inside in self.known if (_below(inside, path) if directory else inside == path)]:
            del self.known[inside]

    def _move(self, source: str, destination: str, *, directory: bool) -> None:
        moved = [path for path in self.known if (_below(path, source) if directory else path == source)]
        entries = {destination + path[len(source) :]: self.known.pop(path) for path in moved}
        self._drop(destination, directory=directory)
        self.known.update(entries)
        if not directory and not moved:
            self._look(destination)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def quiet(self) -> None:
        """Returns when all that has happened so far was reported."""
        async with asyncio.timeout(20):
            await self.front.caught_up()

    async def agrees(self) -> None:
        await self.quiet()
        assert self.known == contents(self.root)


def _below(path: str, root: str) -> bool:
    return not root or path.startswith(root + "/")
