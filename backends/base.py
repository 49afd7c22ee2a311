"""The one interface every store is reached through, and the data that crosses it.

A backend does *one attempt of one thing*: no retries, no parallelism, no knowledge of checkpoints. The transfer engine
above it splits, repeats, limits and observes. All methods block and may be called from several threads at once; a
backend must be safe for that (boto3 clients are). Errors are those of `backends.errors`, nothing else; only what the
caller's own `Source` or `on_bytes` raises comes out unchanged, after the connection it stopped was dropped.

Keys are `/`-separated text relative to the URL's prefix, never empty, never starting with `/`.
Checksums are CRC-64/NVME values (https://reveng.sourceforge.io/crc-catalogue/all.htm, `awscrt.checksums.crc64nvme`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store promises, as data, so that nobody asks `isinstance`."""

    conditional_put: bool
    """`put(if_absent=True)` is decided by the store, atomically."""
    store_checksum: str
    """The checksum the *store* computes and compares: `crc64nvme`, `crc32c`, … or `none`: the backend reads back."""
    min_part_size: int
    """Bytes; every part but the last is at least this long."""
    max_parts: int
    """The most parts one upload may have."""
    conditional_replace: bool = True
    """`put(if_match=…)` is decided by the store, atomically. False: looked up just before, which leaves a gap."""
    copies: bool = False
    """The backend has the methods of `Copying`: what the store holds already need not be sent again."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size: int
    """Bytes."""
    etag: str
    """Opaque version of the content; two different contents of a key never share it."""
    modified: float
    """Seconds since the epoch, by the store's clock."""
    crc64nvme: int | None = None
    """Of the whole object, where the store keeps it."""


@dataclass(frozen=True, slots=True)
class PartTag:
    """One part that the store has acknowledged; enough to finish the upload in another process."""

    number: int
    """From 1."""
    size: int
    tag: str
    """What the store gave for it (S3: the ETag)."""
    crc64nvme: int


@dataclass(frozen=True, slots=True)
class Origin:
    """An object that is said to hold bytes which another one is to get too."""

    key: str
    etag: str
    """Its version. Another one is not copied."""


@dataclass(frozen=True, slots=True)
class PendingUpload:
    key: str
    upload_id: str
    started: float


class Source(Protocol):
    """A rewindable stretch of bytes to send. `read` returns b"" (or an empty view) at its end.

    Every call that takes one sends it from its beginning, wherever an earlier attempt left it.

    A backend that copies from `fileno()` inside the kernel calls `seek(n)` after each stretch, n bytes from the start
    being done. So whoever counts, paces or stops does it in `read` and in `seek` alike, by the position reached.
    """

    def __len__(self) -> int: ...
    def read(self, size: int = -1, /) -> bytes | memoryview: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...
    def fileno(self) -> int:
        """Descriptor of the underlying file, for `copy_file_range`; raises OSError if there is none."""
        ...

    @property
    def offset(self) -> int:
        """Where the stretch begins in the underlying file, in bytes."""
        ...


class Backend(Protocol):
    """One remote: a URL, its options, a connection pool."""

    capabilities: Capabilities

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, str]) -> Self:
        """Parses; does not connect. Raises BadConfiguration for what can never work."""
        ...

    def probe(self) -> None:
        """Checks that the container exists and can be listed and written with these credentials."""
        ...

    def put(
        self, key: str, source: Source, crc64nvme: int, *, if_absent: bool = False, if_match: str | None = None
    ) -> ObjectInfo:
        """Stores a whole object in one request; readers see the old content or the new, never a mixture."""
        ...

    def begin(self, key: str, size: int) -> str:
        """Starts an upload in parts and returns its id. Nothing is visible at `key` before `finish`."""
        ...

    def put_part(self, key: str, upload_id: str, number: int, offset: int, source: Source, crc64nvme: int) -> PartTag:
        """Sends part `number` (from 1), which begins at byte `offset` of the object. May be repeated."""
        ...

    def finish(self, key: str, upload_id: str, parts: Sequence[PartTag], crc64nvme: int) -> ObjectInfo:
        """Joins the parts at `key`, atomically, and confirms size and checksum of the result."""
        ...

    def abort(self, key: str, upload_id: str) -> None:
        """Forgets an upload and frees its parts. An unknown id is not an error."""
        ...

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        """Uploads that were begun and not finished, for the clean-up of a dead daemon's."""
        ...

    def head(self, key: str) -> ObjectInfo | None: ...

    def read(
        self, key: str, offset: int, target: memoryview, *, etag: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        """Fills `target` with the bytes from `offset` on. `on_bytes` gets the count of each stretch as it arrives
        (it may sleep, to pace, or raise, to stop). Raises ObjectChanged if `etag` is given and is not the current one,
        NotFound, and Unavailable when the stream ends early.
        """
        ...

    def stream(
        self, key: str, offset: int, length: int, window: memoryview, on_block: Callable[[memoryview], None], *,
        etag: str | None = None,
    ) -> None:  # fmt: skip
        """Like `read`, for a caller that keeps the bytes elsewhere: they pass through `window`, and `on_block` gets
        each stretch of it as it arrives, in order (it may sleep, to pace, or raise, to stop).
        """
        ...

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix`. (`etag` may be empty.)

        In the order of the keys' UTF-8 on `file://` and AWS; some stores (SeaweedFS) put `a/b` before `a b`.
        `start_after` goes on where a listing of the same store stopped.
        """
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes; absent keys are fine. On a failure some may be gone: repeating is safe."""
        ...

    def close(self) -> None: ...


class Copying(Protocol):
    """What a backend has besides where `Capabilities.copies` says so: bytes that stay inside the store.

    A hint, never a promise: where the origin came from may be wrong or old. So a copy counts as stored only after the
    *store's* word on the copied bytes (their checksum, or reading them back) was compared with `crc64nvme`, as for bytes
    that were sent. `source` holds the same bytes, for checksums of other kinds; it is not sent.

    Raises NotFound (the origin is gone), ObjectChanged (it is another version, or shorter), ChecksumMismatch (other bytes
    came out), NotSupported (this store does not copy, or gives no word on what it copied). All of them leave the upload as
    it was: the caller sends instead.
    """

    def copy(self, key: str, origin: Origin, source: Source, crc64nvme: int) -> ObjectInfo:
        """`put` of the first `len(source)` bytes of the origin, which has no more; from 1 byte to 5 GiB."""
        ...

    def copy_part(
        self, key: str, upload_id: str, number: int, offset: int, origin: Origin, source: Source, crc64nvme: int
    ) -> PartTag:
        """`put_part` of the bytes that the origin has at the same `offset`. May be repeated, or followed by `put_part`."""
        ...
