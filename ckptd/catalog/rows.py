"""The catalog's rows as values."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from sys import intern
from typing import Any

from ckptd.domain.model import Attributes, Checksums, Place, Stamp

UnitName = tuple[str, str, int | None]
"""Volume, run, step: what is decided about together."""


@dataclass(frozen=True, slots=True)
class CopyRow:
    place: Place
    generation: int
    location: str
    inode: int = 0
    mtime_ns: int = 0
    etag: str = ""


@dataclass(frozen=True, slots=True)
class FileRow:
    id: int
    volume: str
    path: str
    run: str
    step: int | None
    link: str | None
    generation: int
    closed: bool
    size: int
    attributes: Attributes
    changed_at: float
    defect: str | None
    checksums: Checksums | None
    copies: dict[Place, CopyRow] = field(default_factory=dict)
    points_to: int | None = None
    requires: frozenset[str] = frozenset()
    """Names that must lie in the same directory: what an index names."""
    began_at: float | None = None
    """When its writer was first seen to have it open; None: that was not seen."""
    plain: bool = False
    """It was fetched from an object that no manifest describes, and that is not ours: never sent, never deleted in the remote."""

    def copy(self, place: Place) -> CopyRow | None:
        """The copy there, if it is of the present content."""
        found = self.copies.get(place)
        return found if found is not None and found.generation == self.generation else None

    @property
    def unit(self) -> UnitName:
        return self.volume, self.run, self.step

    @property
    def upload_key(self) -> str:
        """Of the upload of the present content, in the journal."""
        return f"up/{self.id}/{self.generation}/{self.volume}"

    @property
    def places(self) -> frozenset[Place]:
        return _SETS[frozenset([place for place, copy in self.copies.items() if copy.generation == self.generation])]

    @property
    def durable(self) -> bool:
        return self.link is not None or self.copy(Place.REMOTE) is not None

    def local(self) -> CopyRow | None:
        """The fastest tier copy of the present content."""
        return self.copy(Place.RAM) or self.copy(Place.NVME)

    def stamp(self, copy: CopyRow) -> Stamp:
        return Stamp(copy.inode, self.size, copy.mtime_ns)


@dataclass(frozen=True, slots=True)
class ManifestRow:
    volume: str
    run: str
    step: int
    node: str
    etag: str
    committed_at: float
    body: str
    forgotten: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PinRow:
    volume: str
    run: str
    step: int
    tier: Place
    until: float | None
    uid: int | None = None
    """Who wished it last; None: the daemon itself."""


@dataclass(frozen=True, slots=True)
class TagRow:
    volume: str
    run: str
    name: str
    step: int | None
    """None: deleted here, and the remote is still to be told."""
    node: str
    at: float
    etag: str | None
    """None: the remote is still to be told."""


_PLACE = {str(place): place for place in Place}
_SETS = {frozenset(some): frozenset(some) for count in range(len(Place) + 1) for some in combinations(Place, count)}
"""Shared: 128,000 rows need sixteen of them."""


def pack_crc(value: int) -> bytes:
    return value.to_bytes(8, "big")


def unpack_crc(blob: bytes) -> int:
    return int.from_bytes(blob, "big")


def pack_parts(parts: Sequence[int]) -> bytes:
    return struct.pack(f">{len(parts)}Q", *parts)


def unpack_parts(blob: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(blob) // 8}Q", blob)


def pack_names(names: Collection[str]) -> str | None:
    return json.dumps(sorted(names)) if names else None


@lru_cache(maxsize=256)
def unpack_names(text: str | None) -> frozenset[str]:
    """The checkpoints of a run mostly need the same names: they share them."""
    return frozenset(json.loads(text)) if text else frozenset()


FILE_COLUMNS = (
    "id, volume, path, run, step, link, generation, closed, size, mode, uid, gid, mtime_ns, changed_at, defect, "
    "part_size, parts, crc, points_to, requires, began_at, plain"
)


_text = lru_cache(maxsize=64)(os.fsdecode)
"""Of names that many rows share, so that they share the string too."""


def file_row(row: Sequence[Any], copies: dict[Place, CopyRow]) -> FileRow:
    """From a row in the order of FILE_COLUMNS."""
    (id_, volume, path, run, step, link, generation, closed, size, mode, uid, gid, mtime_ns, changed_at, defect,
     part_size, parts, crc, points_to, requires, began_at, plain) = row  # fmt: skip
    checksums = None
    if crc is not None:
        whole = unpack_crc(crc)
        checksums = Checksums(size, part_size, (whole,) if parts == crc else unpack_parts(parts), whole)
    return FileRow(
        id_, intern(volume), os.fsdecode(path), _text(run), step, None if link is None else os.fsdecode(link),
        generation, bool(closed), size, Attributes(mode, uid, gid, mtime_ns), changed_at, defect, checksums, copies,
        points_to, unpack_names(requires), changed_at if began_at == changed_at else began_at, bool(plain),
    )  # fmt: skip


def copy_row(row: Sequence[Any], file: FileRow) -> CopyRow:
    """Of `file`, from (place, generation, location, inode, mtime_ns, etag). What the file says too is not kept twice."""
    place, generation, location, inode, mtime_ns, etag = row
    where = os.fsdecode(location)
    if where == file.path:
        where = file.path
    if mtime_ns == file.attributes.mtime_ns:
        mtime_ns = file.attributes.mtime_ns
    return CopyRow(_PLACE[place], generation, where, inode, mtime_ns, etag)
