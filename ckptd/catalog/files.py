"""Rows of files and of their copies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ckptd.catalog.database import Database
from ckptd.catalog.rows import (
    FILE_COLUMNS,
    CopyRow,
    FileRow,
    UnitName,
    copy_row,
    file_row,
    pack_crc,
    pack_names,
    pack_parts,
)
from ckptd.domain.model import Attributes, Checksums, Place

_COPY_COLUMNS = "c.place, c.generation, c.location, c.inode, c.mtime_ns, c.etag"
_PUT_COPY = (
    "INSERT OR REPLACE INTO copies (file, place, generation, location, inode, mtime_ns, etag) VALUES (?,?,?,?,?,?,?)"
)
_IN_ONE_QUERY = 500
"""SQLite's default limit is 32,766 variables; short statements are parsed once and cached."""


_LOADED_TOGETHER = 4096
_ONE_WRITING_S = 0.25
"""A file that is closed again so soon was not begun anew: its writer opened it twice, or a mount's server closed it too."""


@dataclass(frozen=True, slots=True)
class NewContent:
    """What was found at a path: a new file, or new content of a known one."""

    path: str
    run: str
    step: int | None
    link: str | None
    closed: bool
    size: int
    attributes: Attributes
    changed_at: float
    defect: str | None = None
    copy: CopyRow | None = None
    """Where it lies; its generation is filled in."""
    id: int | None = None
    """Only for a rebuild, where an object in a tier already carries the id."""
    points_to: int | None = None
    requires: frozenset[str] = frozenset()
    began_at: float | None = None
    """When its writing was first seen; of a file that is known to be open, what was recorded then counts."""
    plain: bool = False
    """As `FileRow.plain`."""


@dataclass(frozen=True, slots=True)
class Relocation:
    file: int
    path: str
    run: str
    step: int | None
    at: float
    defect: str | None
    points_to: int | None
    location: str | None
    """Where the copy in the home tier lies now; None: it has none there, or it does not move (an NVMe object)."""
    requires: frozenset[str] = frozenset()


class Files:
    """`by_unit()` is asked for at every look of the reconciler, so its answer is kept: what changed since is read again."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._kept: dict[int, FileRow] | None = None
        self._stale_ids: set[int] = set()
        self._stale_paths: set[tuple[str, bytes]] = set()
        self._units: dict[UnitName, tuple[FileRow, ...]] | None = None
        self._touched: set[UnitName] = set()
        """Units with rows that came, went or changed since `by_unit` was asked last; `_changed` has those rows' ids."""
        self._changed: set[int] = set()

    async def _select(self, where: str, arguments: Sequence[object]) -> list[FileRow]:
        columns = ", ".join(f"f.{name.strip()}" for name in FILE_COLUMNS.split(","))
        rows = await self._db.read(
            f"SELECT {columns}, {_COPY_COLUMNS} FROM files f LEFT JOIN copies c ON c.file = f.id WHERE {where}"  # noqa: S608 - fixed text
            " ORDER BY f.id",
            arguments,
        )
        width = len(FILE_COLUMNS.split(","))
        found: dict[int, FileRow] = {}
        for row in rows:
            file = found.get(row[0])
            if file is None:
                file = found[row[0]] = file_row(row[:width], {})
            if row[width] is not None:
                copy = copy_row(row[width:], file)
                file.copies[copy.place] = copy
        return list(found.values())

    async def all(self, volume: str | None = None) -> list[FileRow]:
        """By id. Rows that did not change are the same objects as before."""
        async with self._db.alone() as committed:
            kept = await self._current(committed=committed)
            return [row for _, row in sorted(kept.items()) if volume in (None, row.volume)]

    async def by_unit(self) -> Mapping[UnitName, tuple[FileRow, ...]]:
        """All rows by checkpoint, each by id. Of a checkpoint where no row changed it is the same tuple as before.

        Not to be changed by the caller, and only good until the next call. Not to be asked for inside a transaction.
        """
        async with self._db.alone() as committed:
            if not committed:
                raise RuntimeError("rows that are not committed must not be kept")
            kept = await self._current(committed=True)
            if self._units is None:
                everything: dict[UnitName, list[FileRow]] = {}
                for _, row in sorted(kept.items()):
                    everything.setdefault(row.unit, []).append(row)
                self._units = {unit: tuple(rows) for unit, rows in everything.items()}
            else:
                self._regroup(self._units, kept)
            self._touched.clear()
            self._changed.clear()
            return self._units

    def _regroup(self, units: dict[UnitName, tuple[FileRow, ...]], kept: Mapping[int, FileRow]) -> None:
        fresh: dict[UnitName, dict[int, FileRow]] = {
            unit: {row.id: row for row in units.pop(unit, ()) if kept.get(row.id) is row} for unit in self._touched
        }
        for id_ in self._changed:
            if (row := kept.get(id_)) is not None:
                fresh[row.unit][id_] = row
        units |= {unit: tuple(row for _, row in sorted(rows.items())) for unit, rows in fresh.items() if rows}

    def kept(self, file: int) -> FileRow | None:
        """As `by_unit` said it last, without asking the database."""
        return None if self._kept is None else self._kept.get(file)

    async def _current(self, *, committed: bool) -> dict[int, FileRow]:
        if self._kept is None:
            kept = await self._everything()
        elif committed:
            kept = self._kept
            await self._read_again(kept)
        else:
            # Not yet committed rows must not stay in what is kept: a rollback would make ghosts of them.
            kept = dict(self._kept)
            await self._read_again(kept)
        if committed:
            self._kept = kept
            self._stale_ids.clear()
            self._stale_paths.clear()
        return kept

    async def _everything(self) -> dict[int, FileRow]:
        """Some thousand at a time: what SQLite gives takes as much memory as the rows themselves, and the loop must turn."""
        kept: dict[int, FileRow] = {}
        last = 0
        some = "f.id IN (SELECT id FROM files WHERE id > ? ORDER BY id LIMIT ?)"
        while rows := await self._select(some, (last, _LOADED_TOGETHER)):
            kept |= {row.id: row for row in rows}
            last = rows[-1].id
        return kept

    async def _read_again(self, kept: dict[int, FileRow]) -> None:
        ids = list(self._stale_ids)
        found = await self.by_ids(ids)
        by_volume: dict[str, list[str]] = {}
        for name, path in self._stale_paths:
            by_volume.setdefault(name, []).append(os.fsdecode(path))
        for name, paths in by_volume.items():
            found |= {row.id: row for row in (await self.at_paths(name, paths)).values()}
        gone = [old for id_ in {*ids, *found} if (old := kept.pop(id_, None)) is not None]
        kept |= found
        if kept is self._kept:
            self._touched.update(row.unit for row in (*gone, *found.values()))
            self._changed.update(found)

    async def get(self, file: int) -> FileRow | None:
        rows = await self._select("f.id = ?", (file,))
        return rows[0] if rows else None

    async def by_ids(self, ids: Sequence[int]) -> dict[int, FileRow]:
        found: dict[int, FileRow] = {}
        for begin in range(0, len(ids), _IN_ONE_QUERY):
            some = ids[begin : begin + _IN_ONE_QUERY]
            found |= {row.id: row for row in await self._select(f"f.id IN ({','.join('?' * len(some))})", some)}
        return found

    async def at(self, volume: str, path: str) -> FileRow | None:
        rows = await self._select("f.volume = ? AND f.path = ?", (volume, os.fsencode(path)))
        return rows[0] if rows else None

    async def at_paths(self, volume: str, paths: Sequence[str]) -> dict[str, FileRow]:
        found: dict[str, FileRow] = {}
        for begin in range(0, len(paths), _IN_ONE_QUERY):
            some = [os.fsencode(path) for path in paths[begin : begin + _IN_ONE_QUERY]]
            marks = ",".join("?" * len(some))
            for row in await self._select(f"f.volume = ? AND f.path IN ({marks})", (volume, *some)):
                found[row.path] = row
        return found

    async def at_location(self, location: str) -> list[FileRow]:
        """All files with a copy there: more than one where the job copied the link of a demoted file."""
        return await self._select("f.id IN (SELECT file FROM copies WHERE location = ?)", (os.fsencode(location),))

    async def under(self, volume: str, directory: str) -> list[FileRow]:
        """All files below a directory; "" is the whole volume."""
        if not directory:
            return await self.all(volume)
        low = os.fsencode(directory) + b"/"
        high = os.fsencode(directory) + b"0"  # '0' follows '/'
        return await self._select("f.volume = ? AND f.path >= ? AND f.path < ?", (volume, low, high))

    async def plain(self, volume: str) -> list[FileRow]:
        """Fetched from objects that are not ours, and not written since."""
        return await self._select("f.volume = ? AND f.plain AND f.closed", (volume,))

    async def of_unit(self, volume: str, run: str, step: int | None) -> list[FileRow]:
        return await self._select("f.volume = ? AND f.run = ? AND f.step IS ?", (volume, os.fsencode(run), step))

    async def of_run(self, volume: str, run: str) -> list[FileRow]:
        return await self._select("f.volume = ? AND f.run = ?", (volume, os.fsencode(run)))

    async def settle(self, volume: str, found: Iterable[NewContent]) -> None:
        """Records new contents: the generation grows, checksums are forgotten, the copy given is the only current one."""
        found = list(found)
        sql = (
            f"INSERT INTO files ({FILE_COLUMNS}) VALUES (?,?,?,?,?,?,1,?,?,?,?,?,?,?,?,NULL,NULL,NULL,?,?,?,?)"  # noqa: S608 - fixed text
            " ON CONFLICT (volume, path) DO UPDATE SET generation = generation + 1, run = excluded.run,"
            " step = excluded.step, link = excluded.link, closed = excluded.closed, size = excluded.size,"
            " mode = excluded.mode, uid = excluded.uid, gid = excluded.gid, mtime_ns = excluded.mtime_ns,"
            " changed_at = excluded.changed_at, defect = excluded.defect, part_size = NULL, parts = NULL, crc = NULL,"
            " points_to = excluded.points_to, requires = excluded.requires, plain = excluded.plain,"
            " began_at = CASE WHEN files.closed AND (NOT excluded.closed OR excluded.changed_at - files.changed_at > ?)"
            " THEN excluded.began_at ELSE files.began_at END"
        )
        async with self._db.transaction():
            self._stale_paths.update((volume, os.fsencode(new.path)) for new in found)
            await self._db.write_many(sql, [(*self._values(volume, new), _ONE_WRITING_S) for new in found])
            await self._db.write_many(
                "INSERT INTO copies (file, place, generation, location, inode, mtime_ns, etag)"
                " SELECT id, ?, generation, ?, ?, ?, '' FROM files WHERE volume = ? AND path = ?"
                " ON CONFLICT (file, place) DO UPDATE SET generation = excluded.generation, location = excluded.location,"
                " inode = excluded.inode, mtime_ns = excluded.mtime_ns, etag = ''",
                [
                    (c.place, os.fsencode(c.location), c.inode, c.mtime_ns, volume, os.fsencode(new.path))
                    for new in found
                    if (c := new.copy) is not None
                ],
            )

    @staticmethod
    def _values(volume: str, new: NewContent) -> tuple[object, ...]:
        link = None if new.link is None else os.fsencode(new.link)
        a = new.attributes
        return (
            new.id, volume, os.fsencode(new.path), os.fsencode(new.run), new.step, link, new.closed, new.size,
            a.mode, a.uid, a.gid, a.mtime_ns, new.changed_at, new.defect, new.points_to, pack_names(new.requires),
            new.began_at, new.plain,
        )  # fmt: skip

    async def reserve_ids(self, last: int) -> None:
        """Ids up to `last` name objects in a tier, also where this catalog does not know them (it was rebuilt)."""
        async with self._db.transaction():
            seen = await self._db.read("SELECT seq FROM sqlite_sequence WHERE name = 'files'")
            if not seen:
                await self._db.write("INSERT INTO sqlite_sequence (name, seq) VALUES ('files', ?)", (last,))
            elif seen[0][0] < last:
                await self._db.write("UPDATE sqlite_sequence SET seq = ? WHERE name = 'files'", (last,))

    async def opened(self, file: int, at: float) -> None:
        """Its writer has it open (again)."""
        async with self._db.transaction():
            self._stale_ids.add(file)
            await self._db.write(
                "UPDATE files SET closed = 0, changed_at = ?1, began_at = CASE WHEN closed THEN ?1 ELSE began_at END"
                " WHERE id = ?2",
                (at, file),
            )

    async def grew(self, sizes: Iterable[tuple[int, int]]) -> None:
        """New sizes of open files: (size, id)."""
        sizes = list(sizes)
        async with self._db.transaction():
            self._stale_ids.update(file for _, file in sizes)
            await self._db.write_many("UPDATE files SET size = ? WHERE id = ? AND closed = 0", sizes)

    async def relocate(self, moves: Iterable[Relocation], home: Place) -> None:
        """New names of files; their copies in the tier `home` move with them, what is in the remote does not."""
        moves = list(moves)
        async with self._db.transaction():
            self._stale_ids.update(move.file for move in moves)
            await self._db.write_many(
                "UPDATE files SET path = ?, run = ?, step = ?, changed_at = ?, defect = ?, points_to = ?, requires = ?, plain = 0"
                " WHERE id = ?",
                [
                    (
                        os.fsencode(m.path),
                        os.fsencode(m.run),
                        m.step,
                        m.at,
                        m.defect,
                        m.points_to,
                        pack_names(m.requires),
                        m.file,
                    )
                    for m in moves
                ],
            )
            await self._db.write_many(
                "UPDATE copies SET location = ? WHERE file = ? AND place = ?",
                [(os.fsencode(m.location), m.file, home) for m in moves if m.location is not None],
            )
            await self._db.write_many(
                "DELETE FROM copies WHERE file = ? AND place = 'remote'", [(m.file,) for m in moves]
            )

    async def set_attributes(self, file: int, attributes: Attributes) -> None:
        a = attributes
        async with self._db.transaction():
            self._stale_ids.add(file)
            await self._db.write(
                "UPDATE files SET mode = ?, uid = ?, gid = ?, mtime_ns = ? WHERE id = ?",
                (a.mode, a.uid, a.gid, a.mtime_ns, file),
            )

    async def set_checksums(self, file: int, generation: int, sums: Checksums) -> None:
        async with self._db.transaction():
            self._stale_ids.add(file)
            await self._db.write(
                "UPDATE files SET part_size = ?, parts = ?, crc = ? WHERE id = ? AND generation = ?",
                (sums.part_size, pack_parts(sums.parts), pack_crc(sums.whole), file, generation),
            )

    async def set_defect(self, file: int, generation: int, defect: str | None) -> None:
        """Its content turned out not to be whole (None: it is so again)."""
        async with self._db.transaction():
            self._stale_ids.add(file)
            await self._db.write(
                "UPDATE files SET defect = ? WHERE id = ? AND generation = ?", (defect, file, generation)
            )

    async def sent(self, files: Sequence[tuple[FileRow, Checksums, CopyRow]]) -> list[FileRow]:
        """Records what was sent of many files at once; returns those that were renamed or rewritten meanwhile."""
        async with self._db.transaction():
            now = await self.by_ids([row.id for row, _, _ in files])
            as_sent = [
                (row, sums, copy)
                for row, sums, copy in files
                if (found := now.get(row.id)) and (found.path, found.generation) == (row.path, row.generation)
            ]
            self._stale_ids.update(row.id for row, _, _ in as_sent)
            await self._db.write_many(
                "UPDATE files SET part_size = ?, parts = ?, crc = ? WHERE id = ?",
                [(sums.part_size, pack_parts(sums.parts), pack_crc(sums.whole), row.id) for row, sums, _ in as_sent],
            )
            await self._db.write_many(_PUT_COPY, [_copy_values(row.id, copy) for row, _, copy in as_sent])
        kept = {row.id for row, _, _ in as_sent}
        return [row for row, _, _ in files if row.id not in kept]

    async def put_copy(self, file: int, copy: CopyRow) -> bool:
        """Records a whole copy, if its generation is still the present one. Returns whether it was."""
        async with self._db.transaction():
            current = await self._db.read(
                "SELECT 1 FROM files WHERE id = ? AND generation = ?", (file, copy.generation)
            )
            if current:
                self._stale_ids.add(file)
                await self._db.write(_PUT_COPY, _copy_values(file, copy))
            return bool(current)

    async def put_object(self, file: int, key: str, etag: str) -> None:
        """An object of content that is still being written: a copy of no generation, there to be deleted with the file."""
        async with self._db.transaction():
            self._stale_ids.add(file)
            await self._db.write_many(_PUT_COPY, [_copy_values(file, CopyRow(Place.REMOTE, 0, key, etag=etag))])

    async def drop_remote(self, volume: str) -> None:
        """The volume has another remote now: nothing of it is durable there."""
        ids = [row.id for row in await self.all(volume)]
        async with self._db.transaction():
            self._stale_ids.update(ids)
            await self._db.write(
                "DELETE FROM copies WHERE place = 'remote' AND file IN (SELECT id FROM files WHERE volume = ?)",
                (volume,),
            )

    async def is_used(self, location: str) -> bool:
        """Whether a copy of any file lies there."""
        return bool(await self._db.read("SELECT 1 FROM copies WHERE location = ? LIMIT 1", (os.fsencode(location),)))

    async def drop_copy(self, file: int, place: Place, generation: int | None = None) -> bool:
        """`generation`: only if the copy is of that content. Returns whether there was one."""
        where = "file = ?1 AND place = ?2 AND (?3 IS NULL OR generation = ?3)"
        async with self._db.transaction():
            found = await self._db.read(f"SELECT 1 FROM copies WHERE {where}", (file, place, generation))  # noqa: S608 - fixed text
            if found:
                self._stale_ids.add(file)
                await self._db.write(f"DELETE FROM copies WHERE {where}", (file, place, generation))  # noqa: S608 - fixed text
            return bool(found)

    async def delete(self, files: Iterable[int]) -> None:
        files = list(files)
        async with self._db.transaction():
            self._stale_ids.update(files)
            await self._db.write_many("DELETE FROM files WHERE id = ?", [(file,) for file in files])

    async def delete_content(self, file: int, generation: int, *, closed: bool) -> None:
        """Deletes the row unless the job has begun to write the file anew."""
        async with self._db.transaction():
            self._stale_ids.add(file)
            await self._db.write(
                "DELETE FROM files WHERE id = ? AND generation = ? AND closed = ?", (file, generation, closed)
            )

    async def delete_without_copies(self, files: Iterable[int]) -> None:
        """Deletes those that have no copy anywhere now, whatever the caller read before (a job may have written since)."""
        files = list(files)
        async with self._db.transaction():
            self._stale_ids.update(files)
            await self._db.write_many(
                "DELETE FROM files WHERE id = ? AND link IS NULL AND closed"
                " AND NOT EXISTS (SELECT 1 FROM copies WHERE file = files.id)",
                [(file,) for file in files],
            )


def _copy_values(file: int, copy: CopyRow) -> tuple[object, ...]:
    """For `_PUT_COPY`."""
    return file, copy.place, copy.generation, os.fsencode(copy.location), copy.inode, copy.mtime_ns, copy.etag
