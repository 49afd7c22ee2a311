"""What the worker asks of a mover and what it answers. Plain frozen data: descriptions of parts, never their bytes.

Each call names its answer's type, the lane of the mover it runs in, and whether it may change the store (`writes`):
then its end is waited for even when the caller is cancelled, so an abandoned PUT never lands on top of a newer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

from ckptd.domain.model import Checksums, PartDone, Stamp
from ckptd.transfer.refusal import Refusal

Answer = TypeVar("Answer")


class Lane(StrEnum):
    """Threads of a mover are divided, so that a listing never waits behind 16 parts on a slow line."""

    PARTS = "parts"  # bytes between a store and a tier
    CONTROL = "control"  # short requests to a store
    LOCAL = "local"  # reading and copying inside this node


@dataclass(frozen=True, slots=True)
class Remote:
    """What a mover needs to open a backend."""

    name: str
    url: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """`backends.base.ObjectInfo`, for those above who must not import a backend."""

    key: str
    size: int
    etag: str
    modified: float
    crc64nvme: int | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """The backend's capabilities, as far as splitting needs them."""

    conditional_put: bool
    store_checksum: str
    min_part_size: int
    max_parts: int


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to tell but success."""


@dataclass(frozen=True, slots=True)
class Held:
    """A stretch of an object of the same remote: where it has this checksum, it is copied there instead of sent."""

    key: str
    etag: str
    crc64nvme: int
    """Of the stretch, by the manifest that describes the object."""


@dataclass(frozen=True, slots=True)
class Stored:
    etag: str
    crc64nvme: int
    copied: bool = False
    """No byte of it was sent."""
    trouble: Refusal | None = None
    """Why it was sent although the store holds it."""


@dataclass(frozen=True, slots=True)
class PartStored:
    part: PartDone
    copied: bool = False
    trouble: Refusal | None = None
    """As in `Stored`."""


@dataclass(frozen=True, slots=True)
class Begun:
    upload_id: str


@dataclass(frozen=True, slots=True)
class Allocated:
    identity: str
    """Device and inode of the staged file: a resumed download must go into the same one."""
    good: tuple[int, ...]
    """Numbers of the parts that are in it already, by their checksum."""


@dataclass(frozen=True, slots=True)
class Data:
    found: bool
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Found:
    stat: ObjectStat | None


@dataclass(frozen=True, slots=True)
class Page:
    stats: tuple[ObjectStat, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    lane: ClassVar[Lane] = Lane.CONTROL
    writes: ClassVar[bool] = False

    def undone_by(self, answer: Answer) -> Call[Any] | None:
        """What takes its effect back when its caller went away before the answer came."""
        del answer
        return None


@dataclass(frozen=True, slots=True)
class Describe(Call[Features]):
    remote: Remote


@dataclass(frozen=True, slots=True)
class Probe(Call[Done]):
    remote: Remote


@dataclass(frozen=True, slots=True)
class PutWhole(Call[Stored]):
    """A file that fits in one part: one message there, one back."""

    lane: ClassVar[Lane] = Lane.PARTS
    writes: ClassVar[bool] = True
    remote: Remote
    key: str
    path: str
    stamp: Stamp
    held: Held | None = None


@dataclass(frozen=True, slots=True)
class Small:
    """One file of `PutSeveral`."""

    key: str
    path: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class SeveralStored:
    stored: tuple[Stored | None, ...]
    """In the order of the files; None: it was not sent, or in vain."""
    refusal: Refusal | None = None
    """Of the first that was sent in vain."""


@dataclass(frozen=True, slots=True)
class PutSeveral(Call[SeveralStored]):
    """Files that each fit in one part, one after the other: where they are very many, the messages cost more than the bytes."""

    lane: ClassVar[Lane] = Lane.PARTS
    writes: ClassVar[bool] = True
    remote: Remote
    files: tuple[Small, ...]


@dataclass(frozen=True, slots=True)
class Begin(Call[Begun]):
    writes: ClassVar[bool] = True
    remote: Remote
    key: str
    size: int

    def undone_by(self, answer: Begun) -> Call[Any] | None:
        """Nobody else knows the id, and some stores keep unfinished uploads for ever."""
        return Abort(self.remote, self.key, answer.upload_id)


@dataclass(frozen=True, slots=True)
class PutPart(Call[PartStored]):
    lane: ClassVar[Lane] = Lane.PARTS
    writes: ClassVar[bool] = True
    remote: Remote
    key: str
    upload_id: str
    number: int
    offset: int
    length: int
    path: str
    stamp: Stamp
    held: Held | None = None


@dataclass(frozen=True, slots=True)
class Finish(Call[Stored]):
    """Joins the parts, if the file at `path` still is what was sent."""

    writes: ClassVar[bool] = True
    remote: Remote
    key: str
    upload_id: str
    parts: tuple[PartDone, ...]
    path: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Abort(Call[Done]):
    writes: ClassVar[bool] = True
    remote: Remote
    key: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class Allocate(Call[Allocated]):
    """Makes the staged file with its whole size reserved; with `identity`, looks which parts are in it already."""

    lane: ClassVar[Lane] = Lane.LOCAL
    staged: str
    checksums: Checksums
    identity: str
    done: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadPart(Call[Done]):
    """Store → a stretch of the staged file, checked on the way."""

    lane: ClassVar[Lane] = Lane.PARTS
    remote: Remote
    key: str
    staged: str
    number: int
    offset: int
    length: int
    crc64nvme: int


@dataclass(frozen=True, slots=True)
class Taken:
    crc64nvme: int


@dataclass(frozen=True, slots=True)
class TakePart(Call[Taken]):
    """`ReadPart` of an object of which nobody has said a checksum: it is taken on the way."""

    lane: ClassVar[Lane] = Lane.PARTS
    remote: Remote
    key: str
    staged: str
    offset: int
    length: int
    etag: str
    """Its version: parts of two are never joined."""


@dataclass(frozen=True, slots=True)
class SealTaken(Call[Checksums]):
    """Flushes the staged file to its disk, and joins the checksums of its parts."""

    lane: ClassVar[Lane] = Lane.LOCAL
    staged: str
    size: int
    part_size: int
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadWhole(Call[Done]):
    """`Allocate`, `ReadPart` and `Seal` in one, for a file that is one part (or none)."""

    lane: ClassVar[Lane] = Lane.PARTS
    remote: Remote
    key: str
    staged: str
    size: int
    crc64nvme: int


@dataclass(frozen=True, slots=True)
class Seal(Call[Done]):
    """Flushes the staged file to its disk."""

    lane: ClassVar[Lane] = Lane.LOCAL
    staged: str
    checksums: Checksums


@dataclass(frozen=True, slots=True)
class CheckPart(Call[Done]):
    """Reads a part back from the store without keeping it."""

    lane: ClassVar[Lane] = Lane.PARTS
    remote: Remote
    key: str
    number: int
    offset: int
    length: int
    crc64nvme: int


@dataclass(frozen=True, slots=True)
class Sum(Call[Checksums]):
    lane: ClassVar[Lane] = Lane.LOCAL
    path: str
    stamp: Stamp
    part_size: int


@dataclass(frozen=True, slots=True)
class CheckStretch(Call[Done]):
    """Reads consecutive parts of a local file against their checksums; Refused with CORRUPT names the first bad one."""

    lane: ClassVar[Lane] = Lane.LOCAL
    path: str
    stamp: Stamp
    part_size: int
    first: int
    """Number of the first part, from 1."""
    crcs: tuple[int, ...]
    """CRC-64/NVME of each part that is to be read."""
    idle: bool = False
    """The disk's other users go first (ioprio class idle)."""


@dataclass(frozen=True, slots=True)
class Copy(Call[Checksums]):
    lane: ClassVar[Lane] = Lane.LOCAL
    writes: ClassVar[bool] = True
    source: str
    stamp: Stamp
    target: str
    part_size: int
    expect: Checksums | None


@dataclass(frozen=True, slots=True)
class Get(Call[Data]):
    remote: Remote
    key: str


@dataclass(frozen=True, slots=True)
class Put(Call[ObjectStat]):
    writes: ClassVar[bool] = True
    remote: Remote
    key: str
    data: bytes
    if_absent: bool


@dataclass(frozen=True, slots=True)
class ListPage(Call[Page]):
    remote: Remote
    prefix: str
    start_after: str
    limit: int


@dataclass(frozen=True, slots=True)
class Head(Call[Found]):
    remote: Remote
    key: str


@dataclass(frozen=True, slots=True)
class Delete(Call[Done]):
    writes: ClassVar[bool] = True
    remote: Remote
    keys: tuple[str, ...]


CALLS: dict[type[Call[Any]], type[Any]] = {
    Describe: Features, Probe: Done, PutWhole: Stored, PutSeveral: SeveralStored, Begin: Begun, PutPart: PartStored,
    Finish: Stored, Abort: Done,
    Allocate: Allocated, ReadPart: Done, ReadWhole: Done, TakePart: Taken, SealTaken: Checksums, Seal: Done,
    CheckPart: Done, Sum: Checksums, CheckStretch: Done, Copy: Checksums, Get: Data, Put: ObjectStat, ListPage: Page,
    Head: Found, Delete: Done,
}  # fmt: skip
"""Every call, with the type of its answer."""
