"""The entries of a manifest, packed: a node may know of 128,000 of them and needs those of a few checkpoints at a time.

64 entries take 5 KiB packed and 45 KiB as objects; unpacking them takes 0.2 ms.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, overload

from ckptd.domain.model import Attributes, Checksums
from ckptd.domain.names import path_of
from ckptd.manifest.format import ManifestEntry
from ckptd.policy.timeline import Written


class PackedEntries(Sequence[ManifestEntry]):
    """Looks like a tuple of entries that makes them anew whenever it is gone through."""

    __slots__ = ("_count", "_packed", "folders", "size", "times")

    def __init__(self, flat: Sequence[Any]) -> None:
        self._packed = zlib.compress(marshal.dumps(list(flat)), 1)
        self._count = len(flat)
        self.size: int = sum(sums[0] for _, _, _, _, _, sums, _, _ in flat if sums is not None)
        """Bytes of all files."""
        written = Written.of(0, [(one[5][0] if one[5] else 0, one[4]) for one in flat])
        self.times: tuple[int, int] = (written.model_at, written.last_at) if written is not None else (0, 0)
        """`Written.model_at`, `Written.last_at`."""
        self.folders = frozenset(one[0].rpartition("/")[0] for one in flat)
        """Of the keys."""

    @classmethod
    def of(cls, entries: Iterable[ManifestEntry]) -> Self:
        return cls([_flat(entry) for entry in entries])

    @classmethod
    def of_json(cls, files: Iterable[Mapping[str, Any]]) -> Self:
        """From a manifest that was checked before (`Manifest.from_json`), without making objects in between."""
        return cls([_flat_json(item) for item in files])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ManifestEntry]:
        # Made by this process from checked values, never read from elsewhere: marshal is safe here, and the fastest.
        return map(_entry, marshal.loads(zlib.decompress(self._packed)))  # noqa: S302

    @overload
    def __getitem__(self, at: int) -> ManifestEntry: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[ManifestEntry]: ...
    def __getitem__(self, at: int | slice) -> ManifestEntry | Sequence[ManifestEntry]:
        return tuple(self)[at]


def _flat(entry: ManifestEntry) -> tuple[Any, ...]:
    a, sums = entry.attributes, entry.checksums
    said = None if sums is None else (sums.size, sums.part_size, sums.parts, sums.whole)
    return entry.key, a.mode, a.uid, a.gid, a.mtime_ns, said, entry.link, entry.etag


def _flat_json(item: Mapping[str, Any]) -> tuple[Any, ...]:
    head = item["key"], item["mode"], item["uid"], item["gid"], item["mtime_ns"]
    if "link" in item:
        return *head, None, path_of(item["link"]), ""
    parts = tuple([int(part, 16) for part in item["parts"]])
    return *head, (item["size"], item["part_size"], parts, int(item["crc64nvme"], 16)), None, item.get("etag", "")


def _entry(flat: tuple[Any, ...]) -> ManifestEntry:
    key, mode, uid, gid, mtime_ns, said, link, etag = flat
    return ManifestEntry(
        key, Attributes(mode, uid, gid, mtime_ns), None if said is None else Checksums(*said), link, etag
    )
