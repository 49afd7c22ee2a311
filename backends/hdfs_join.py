"""How the parts of an upload become one file: CONCAT, a matter of names; else one stream through this machine.

CONCAT moves the blocks of other files to the end of the first one's. It wants all in one folder and of one block size, and
Hadoop before 2.8 (HDFS-3689) wants every block but the last full; so a block is as long as a part, or divides it
(`block_size_of`). It refuses encryption zones and, before Hadoop 3.3, erasure-coded files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .base import PartTag
from .errors import BackendError, ChecksumMismatch, NotSupported, UploadGone
from .hdfs_checksum import Sums, joined
from .hdfs_files import HdfsFiles, Status
from .hdfs_names import new_part_name

_LONGEST_QUERY = 6000
"""Characters of one CONCAT's sources: web servers take 8 KiB of address."""
_LARGEST_BLOCK = 256 << 20
_SMALLEST_BLOCK = 1 << 20
"""`dfs.namenode.fs-limits.min-block-size`."""


@dataclass(frozen=True, slots=True)
class StoredPart:
    """What a part's tag says: `<name> <inode's number> <sums>`."""

    name: str
    number: int
    sums: Sums | None

    def text(self) -> str:
        return f"{self.name} {self.number:x}" + (f" {self.sums.text()}" if self.sums else "")

    @classmethod
    def parse(cls, text: str) -> StoredPart:
        name, number, *sums = text.split(" ", 2)
        return cls(name, int(number, 16), Sums.parse(sums[0]) if sums else None)


def block_size_of(part_size: int, wanted: int | None) -> int | None:
    """Bytes; for all parts of a file the same. None: the cluster's, where no sound one divides the part.

    `part_size` is that of every part but the last.
    """
    if wanted is not None and part_size % wanted == 0:
        return wanted
    if part_size < _SMALLEST_BLOCK:
        return wanted or _SMALLEST_BLOCK
    pieces = -(-part_size // _LARGEST_BLOCK)
    while part_size % pieces or (part_size // pieces) % 512:
        pieces += 1
        if part_size // pieces < _SMALLEST_BLOCK:
            return wanted
    return part_size // pieces


class Joining:
    """One upload's parts, in their order, in its folder. Every step may be the last before a kill: `run` goes on from there."""

    def __init__(self, files: HdfsFiles, folder: str, parts: Sequence[PartTag], what: str) -> None:
        self._files = files
        self._folder = folder
        self._parts = parts
        self._stored = [StoredPart.parse(part.tag) for part in parts]
        self._what = what

    @property
    def first(self) -> StoredPart:
        return self._stored[0]

    @property
    def size(self) -> int:
        return sum(part.size for part in self._parts)

    def run(self, crc64nvme: int) -> tuple[str, Status]:
        """The file that has them all, its size and checksum compared; raises UploadGone where parts are missing."""
        target = self._path(self.first)
        status = self._status(target)
        done, length = 1, self._parts[0].size
        while length < status.length and done < len(self._parts):
            length += self._parts[done].size
            done += 1
        if length != status.length:
            raise ChecksumMismatch(f"{self._what}: part 1 has {status.length} bytes in HDFS, {length} were sent")
        try:
            while done < len(self._parts):
                done = self._concat(target, done)
        except (NotSupported, BackendError) as error:
            if error.retryable and "concat" not in error.message.lower():
                raise
            if not _refuses(error):
                raise
            target = self._stream(crc64nvme)
        status = self._status(target)
        if status.length != self.size:
            raise ChecksumMismatch(f"{self._what}: {status.length} bytes were stored where {self.size} were meant")
        self._compare(target)
        return target, status

    def _concat(self, target: str, begin: int) -> int:
        """Adds as many as fit into one call; the first that is not added yet."""
        sources: list[str] = []
        for stored in self._stored[begin:]:
            if sources and sum(map(len, sources)) + len(sources) + len(self._path(stored)) > _LONGEST_QUERY:
                break
            sources.append(self._path(stored))
        self._files.web.call("POST", "CONCAT", target, sources=",".join(sources))
        return begin + len(sources)

    def _stream(self, crc64nvme: int) -> str:
        """Everything down and up again, in order; checked by reading it once more."""
        target = f"{self._folder}/{new_part_name(0)}"
        paths = [(self._path(stored), part.size) for stored, part in zip(self._stored, self._parts, strict=True)]
        self._files.web.send("CREATE", target, Stream(self._files, paths), overwrite="false", permission="644")
        self._files.require_content(target, self.size, crc64nvme)
        self._stored = [StoredPart(target.rpartition("/")[2], 0, None)]
        return target

    def _compare(self, target: str) -> None:
        known = [
            (stored.sums, part.size) for stored, part in zip(self._stored, self._parts, strict=False) if stored.sums
        ]
        if len(known) < len(self._parts):
            return  # each was proven when it was sent, and CONCAT touches no byte
        stored_sum = self._files.stored_sum(target)
        if stored_sum is None or not joined(known).matches(stored_sum):
            raise ChecksumMismatch(f"{self._what}: HDFS's checksum of the whole is not that of its parts")

    def _path(self, stored: StoredPart) -> str:
        return f"{self._folder}/{stored.name}"

    def _status(self, path: str) -> Status:
        status = self._files.status(path)
        if status is None:
            raise UploadGone(f"{self._what}: a part of the upload is gone")
        return status


class Stream:
    """Files of HDFS one after the other, as a body to send."""

    def __init__(self, files: HdfsFiles, paths: Sequence[tuple[str, int]]) -> None:
        self._files = files
        self._paths = list(paths)
        self._length = sum(size for _, size in paths)
        self._left = 0
        self._body: object = None

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1, /) -> bytes:
        while not self._left:
            if not self._paths:
                return b""
            path, self._left = self._paths.pop(0)
            self._body = self._files.web.open(path, 0, self._left)
        block: bytes = self._body.read(min(self._left, 1 << 20 if size < 0 else max(size, 256 << 10)))  # type: ignore[attr-defined]
        if not block:
            raise ConnectionResetError(f"the stream ended {self._left} bytes early")
        self._left -= len(block)
        if not self._left:
            self._body.release_conn()  # type: ignore[attr-defined]
        return block


def _refuses(error: BackendError) -> bool:
    """CONCAT is not to be had for these files. A lost answer is not that."""
    said = error.message.lower()
    return isinstance(error, NotSupported) or any(
        sign in said for sign in ("concat", "encryption zone", "erasure", "preferred block size", "has only")
    )
