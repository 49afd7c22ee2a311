"""Takes what a front tells and makes the catalog say it.

Changes of one volume are handled in order by one task; each batch ends with the catalog in a state that a kill may leave
behind, because the next start scans. The engine's own doings come back as changes too (a file put in place, one evicted):
they are recognised by what the catalog says already.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial

from ckptd.catalog import CopyRow, FileRow
from ckptd.catalog.files import NewContent, Relocation
from ckptd.domain.changes import Change, Deleted, Moved, ObjectSettled, Opened, Scanned, Settled, Touched
from ckptd.domain.errors import CkptdError
from ckptd.domain.model import Place
from ckptd.engine import looking
from ckptd.engine.comparing import Comparing
from ckptd.engine.context import Context
from ckptd.engine.launching import Launching
from ckptd.engine.leaving import drop_objects, hide, leave_remote
from ckptd.engine.volume import Volume
from ckptd.layouts import locate
from ckptd.tiers.attributes import write_origin
from ckptd.tiers.lease import has_writer
from ckptd.tiers.spilled import is_spilled

_IN_ONE_TURN = 200
"""Files looked at before the rest of the daemon has its turn: some ms."""


class Observer:
    def __init__(self, context: Context, volume: Volume) -> None:
        self._context = context
        self._volume = volume
        self._files = context.catalog.files
        self._launching = Launching(context, volume)
        self._comparing = Comparing(context, volume, self._settle)

    async def handle(self, changes: Sequence[Change]) -> None:
        """Raises StateUnusable when the catalog cannot be written: the same batch may be given again."""
        settled: dict[str, None] = {}
        objects: dict[int, None] = {}
        later = {change.path for change in changes if isinstance(change, Settled)}
        for change in changes:
            if isinstance(change, Settled):
                settled[change.path] = None
                continue
            if isinstance(change, Opened) and change.path in later:
                continue
            await self._settle(list(settled))
            settled.clear()
            if isinstance(change, ObjectSettled):
                objects[change.file] = None
                continue
            await self._objects_settled(list(objects))
            objects.clear()
            await self._one(change)
        await self._settle(list(settled))
        await self._objects_settled(list(objects))
        self._context.wake()

    async def recognise(self, paths: Sequence[str]) -> None:
        """Compares what lies at these paths with what manifests say of them."""
        await self._comparing.with_remote(paths)

    async def _one(self, change: Change) -> None:
        match change:
            case Opened(path):
                await self._opened(path)
            case Touched(path):
                await self._touched(path)
            case Moved(source, destination, directory):
                await self._moved(source, destination, directory)
            case Deleted(path, directory):
                await self._deleted(path, directory)
            case Scanned(root, paths, complete):
                await self._scanned(root, paths, complete)

    async def _settle(self, paths: Sequence[str], *, scanning: bool = False, live: bool = True) -> None:
        """`live`: what is new was written just now, not while nobody looked."""
        if not paths:
            return
        rows = await self._files.at_paths(self._volume.name, paths)
        now = self._context.clock()
        began_at = now if live else None
        seen = {path: looking.find(self._volume.locate(path)) async for path in _in_turns(paths)}
        objects = {path: file for path, found in seen.items() if (file := self._object(found)) is not None}
        behind = await self._files.by_ids(list(objects.values()))
        named: set[int] = set()
        new: list[NewContent] = []
        async for path in _in_turns(seen):
            row, found = rows.get(path), seen[path]
            if found is None:
                continue
            if (file := objects.get(path)) is not None:
                linked = await self._linked(path, file, row, behind.get(file), named, began_at)
                new += [] if linked is None else [linked]
            elif scanning and row is not None and await self._placed_by_us(row, found):
                continue
            elif not looking.same(row, self._volume, found, now, certain=scanning):
                closed = not (scanning and found.target is None and has_writer(self._volume.locate(path)))
                content = partial(looking.content, self._volume, path, found, now, closed=closed, began_at=began_at)
                new.append(await _read(path, found, content))
                if not closed:
                    self._launching.opened(path)
                if row is not None:
                    await self._content_replaced(row)
        await self._files.settle(self._volume.name, new)
        await self._comparing.with_remote([content.path for content in new if content.closed])

    async def _content_replaced(self, row: FileRow) -> None:
        self._context.cancel_file(row.id)
        nvme = row.copies.get(Place.NVME)
        if nvme is not None and self._volume.home is not Place.NVME:
            await self._files.drop_copy(row.id, Place.NVME)
            await drop_objects(self._context, self._volume, [row])
        await self._abandon_upload(row)

    async def _abandon_upload(self, row: FileRow) -> None:
        journal_key = row.upload_key
        if await self._context.catalog.journal.load(journal_key) is None:
            return
        remote = self._volume.remote

        async def abandon() -> None:
            with contextlib.suppress(CkptdError):  # the store forgets unfinished uploads by itself, too
                await self._context.transfers.abandon(remote, journal_key)

        self._context.spawn(abandon(), f"abandon {journal_key}")

    def _object(self, found: looking.Found | None) -> int | None:
        return None if found is None or found.target is None else self._volume.object_of(found.target)

    async def _linked(
        self, path: str, file: int, here: FileRow | None, row: FileRow | None, named: set[int], began_at: float | None
    ) -> NewContent | None:
        """A link to an NVMe object is at `path`: ours, or (after a rebuild or a crash, or where the job copied one) one the
        catalog does not know of: then the answer is what to record. `here` is the file at the path, `row` the one that
        the object is named after. `named`: objects that give their number to a new row already.
        """
        location = self._volume.object_path(file)
        found = looking.find(location)
        if found is None or found.target is not None:
            return None
        nvme = None if row is None else row.copies.get(Place.NVME)
        if row is not None and row.path == path and nvme is not None and nvme.generation == row.generation:
            if row.stamp(nvme) != found.stamp:
                await self._objects_settled([file])
            return None
        at = self._context.clock()
        closed = not (is_spilled(file) and has_writer(location))
        if here is not None and here.closed == closed and _lies_at(here, location, found):
            return None  # known already: a copied link, or a file that began here
        if row is not None and row.path == path and _unwritten(row, found):
            await self._record_demotion(row, location, found)
            return None
        where = locate(path)
        copy = CopyRow(Place.NVME, 0, location, found.stamp.inode, found.stamp.mtime_ns)
        defect = looking.inspect(location, path, found.stamp.size) if closed else None
        free = row is None and file not in named and not is_spilled(file)
        named.add(file)
        return NewContent(
            path, where.run, where.step, None, closed, found.stamp.size, found.attributes, at, defect, copy,
            file if free else None, requires=looking.required(location, path, found.stamp.size), began_at=began_at,
        )  # fmt: skip

    async def _record_demotion(self, row: FileRow, location: str, found: looking.Found) -> None:
        """We were killed between the exchange and its record; the copy was verified before the exchange."""
        nvme = CopyRow(Place.NVME, row.generation, location, found.stamp.inode, found.stamp.mtime_ns)
        await self._files.put_copy(row.id, nvme)
        await self._files.drop_copy(row.id, Place.RAM)

    async def _placed_by_us(self, row: FileRow, found: looking.Found) -> bool:
        """We were killed after a promotion put the file in its place and before its record, or after an eviction's record and
        before the file went: no new content, which would seem to be younger than the checkpoint's marker.
        """
        location = self._volume.locate(row.path)
        if row.copy(self._volume.home) is not None or not _unwritten(row, found) or has_writer(location):
            return False
        home = CopyRow(self._volume.home, row.generation, location, found.stamp.inode, found.stamp.mtime_ns)
        await self._files.put_copy(row.id, home)
        if self._volume.home is not Place.NVME:
            await self._files.drop_copy(row.id, Place.NVME)
            await drop_objects(self._context, self._volume, [row])
        return True

    async def _opened(self, path: str) -> None:
        location = self._volume.locate(path)
        found = looking.find(location)
        if found is None:
            return
        if found.target is not None or has_writer(location) is False:
            await self._settle([path])
            return
        self._launching.opened(path)
        row = await self._files.at(self._volume.name, path)
        if row is not None:
            self._context.cancel_file(row.id)
            await self._files.opened(row.id, self._context.clock())
        else:
            now = self._context.clock()
            new = looking.content(self._volume, path, found, now, closed=False, began_at=now)
            await self._files.settle(self._volume.name, [new])

    async def _touched(self, path: str) -> None:
        row = await self._files.at(self._volume.name, path)
        found = looking.find(self._volume.locate(path))
        if row is None or found is None or found.target is not None or not row.closed:
            return
        copy = row.copy(self._volume.home)
        if copy is None:
            return
        if row.stamp(copy) == found.stamp:
            await self._files.set_attributes(row.id, found.attributes)
        elif (
            row.checksums is not None and row.stamp(copy).size == found.stamp.size and row.id not in self._context.files
        ):
            self._comparing.begin(row, row.checksums, None)
        else:
            await self._settle([path])

    async def _objects_settled(self, files: Sequence[int]) -> None:
        named = await self._files.by_ids(files)
        new: list[NewContent] = []
        for file in files:
            location = self._volume.object_path(file)
            rows = {row.id: row for row in await self._files.at_location(location)}
            row = named.get(file)
            if row is not None and self._leads_to(row, location):
                rows[file] = row  # also where the exchange is not recorded yet
            found = [await self._object_content(one, location) for one in rows.values()]
            new += [content for content in found if content is not None]
        await self._files.settle(self._volume.name, new)

    def _leads_to(self, row: FileRow, location: str) -> bool:
        found = looking.find(self._volume.locate(row.path))
        return found is not None and found.target == location

    async def _object_content(self, row: FileRow, location: str) -> NewContent | None:
        found = looking.find(location)
        if found is None or found.target is not None or (row.closed and _lies_at(row, location, found)):
            return None
        if not row.closed and has_writer(location):
            return (
                None  # a mount's server has made it and closed it, or one writer of several: the last close is told too
            )
        nvme = row.copies.get(Place.NVME)
        if nvme is not None and nvme.generation != row.generation and not self._leads_to(row, location):
            return None  # an old copy: the file itself is elsewhere by now
        if row.copy(Place.NVME) is None and _unwritten(row, found):
            await self._record_demotion(row, location, found)
            return None
        self._context.cancel_file(row.id)
        await self._abandon_upload(row)
        at = self._context.clock()
        return await _read(row.path, found, partial(looking.object_content, row, found, location, at))

    async def _moved(self, source: str, destination: str, directory: bool) -> None:
        rows = [row] if (row := await self._files.at(self._volume.name, source)) is not None else []
        if directory:
            rows += await self._files.under(self._volume.name, source)
        if not directory and (
            not rows or (not rows[0].closed and has_writer(self._volume.locate(destination)) is False)
        ):
            await self._deleted(source, directory=False)
            await self._settle([destination])
            return
        targets = {row.id: destination + row.path[len(source) :] for row in rows}
        replaced = await self._files.at_paths(self._volume.name, list(targets.values()))
        stale = [row for path, row in replaced.items() if row.id not in targets]
        for row in [*rows, *stale]:
            self._context.cancel_file(row.id)
        async with self._context.catalog.transaction():
            await self._leave(stale)
            await self._files.delete([row.id for row in stale])
            await leave_remote(self._context, self._volume, rows)
            await self._files.relocate([self._relocation(row, targets[row.id]) for row in rows], self._volume.home)
        await drop_objects(self._context, self._volume, stale)
        if self._volume.home is not Place.NVME:
            for row in rows:
                if (nvme := row.copies.get(Place.NVME)) is not None:
                    write_origin(nvme.location, targets[row.id])

    def _relocation(self, row: FileRow, path: str) -> Relocation:
        where = locate(path)
        copy = row.copies.get(self._volume.home)
        own = copy is not None and copy.location == self._volume.locate(row.path)
        location = self._volume.locate(path) if own else None
        defect, requires = row.defect, row.requires
        if copy is not None and os.path.basename(path) != os.path.basename(row.path):
            defect = looking.inspect(location or copy.location, path, row.size)
            requires = looking.required(location or copy.location, path, row.size)
        points_to = None if copy is None else looking.pointed(location or copy.location, path, row.size)
        return Relocation(
            row.id, path, where.run, where.step, self._context.clock(), defect, points_to, location, requires
        )

    async def _deleted(self, path: str, directory: bool) -> None:
        rows = [row] if (row := await self._files.at(self._volume.name, path)) is not None else []
        if directory:
            rows += await self._files.under(self._volume.name, path)
        gone = [row for row in rows if _here(row) and looking.gone(self._volume.locate(row.path))]
        await self._forget(gone)
        if self._volume.front.is_mount:
            await self._stub_deleted(path, [row for row in rows if not _here(row)])

    async def _stub_deleted(self, path: str, rows: Sequence[FileRow]) -> None:
        """The job deleted a file that is only in the remote: it stays there, and out of sight here."""
        if path in self._volume.taken_away:
            self._volume.taken_away.discard(path)
            return
        if not looking.gone(self._volume.locate(path)):
            return
        where = locate(path)
        unit = None if where.step is None else self._context.known.of(self._volume.name, where.run, where.step)
        entry = None if unit is None else unit.entries().get(path)
        if entry is not None and where.step is not None:
            await self._context.known.forget_members(self._volume.name, where.run, where.step, [entry.key])
        elif self._volume.plain is not None and (stat := self._volume.plain.get(path)) is not None:
            await hide(self._context, self._volume, [(path, stat.etag)])
        await self._forget([row for row in rows if row.path == path])

    async def _forget(self, gone: Sequence[FileRow]) -> None:
        """The job deleted these files."""
        for row in gone:
            self._context.cancel_file(row.id)
            self._context.synced.pop(row.id, None)
            await self._abandon_upload(row)
        async with self._context.catalog.transaction():
            await self._leave(gone)
            await self._files.delete([row.id for row in gone])
        await drop_objects(self._context, self._volume, gone)

    async def _leave(self, rows: Sequence[FileRow]) -> None:
        await leave_remote(self._context, self._volume, rows)

    async def _scanned(self, root: str, paths: Sequence[str], complete: bool) -> None:
        rows = {row.path: row for row in await self._files.under(self._volume.name, root)}
        now = self._context.clock()
        changed = []
        async for path in _in_turns(paths):
            found = looking.find(self._volume.locate(path))
            if found is not None and not looking.same(rows.get(path), self._volume, found, now, certain=True):
                changed.append(path)
        await self._settle(changed, scanning=True, live=not complete)
        if complete:
            listed = set(paths)
            missing = [row for path, row in rows.items() if path not in listed and _here(row)]
            await self._forget([row for row in missing if looking.gone(self._volume.locate(row.path))])

    async def look_at_open(self, rows: Sequence[FileRow]) -> None:
        """For files that are thought to be open: how large they are by now, and whether anybody still writes them."""
        sizes: list[tuple[int, int]] = []
        closed: list[str] = []
        for row in rows:
            location = self._volume.locate(row.path)
            found = looking.find(location)
            if found is None:
                continue
            if has_writer(location) is False:
                closed.append(row.path)
                continue
            self._launching.opened(row.path)
            if found.stamp.size != row.size:
                sizes.append((found.stamp.size, row.id))
        if sizes:
            await self._files.grew(sizes)
        if closed:
            await self._settle(closed)


async def _in_turns(paths: Iterable[str]) -> AsyncIterator[str]:
    """Others have their turn now and then: looking at 100,000 files takes seconds."""
    for number, path in enumerate(paths, start=1):
        yield path
        if number % _IN_ONE_TURN == 0:
            await asyncio.sleep(0)


async def _read(path: str, found: looking.Found, content: Callable[[], NewContent]) -> NewContent:
    """An index of many shards is read in a thread: searching its megabytes takes longer than the daemon may be silent."""
    return await asyncio.to_thread(content) if looking.slow(path, found) else content()


def _lies_at(row: FileRow, location: str, found: looking.Found) -> bool:
    """Whether the catalog knows the object that was found as the row's present content."""
    nvme = row.copy(Place.NVME)
    return nvme is not None and nvme.location == location and row.stamp(nvme) == found.stamp


def _unwritten(row: FileRow, found: looking.Found) -> bool:
    """Whether what was found in a place that the catalog does not know of is the row's present content: we give our copies
    the file's own time, and whoever writes one changes it.
    """
    same = (row.size, row.attributes.mtime_ns) == (found.stamp.size, found.stamp.mtime_ns)
    return row.closed and row.link is None and found.target is None and same


def _here(row: FileRow) -> bool:
    """Whether the catalog thinks that something is at its path: an evicted file's disappearance is our own doing."""
    return row.link is not None or not row.closed or any(place is not Place.REMOTE for place in row.copies)
