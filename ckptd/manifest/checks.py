"""What a manifest may say. Others may write to a remote too: it is not trusted to choose where files land, whose they are,
or how much memory they take.

All functions raise ValueError, saying what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ckptd.domain.model import Attributes, Checksums
from ckptd.domain.names import path_of

MANIFEST_LIMIT = 256 * 1024 * 1024
"""Bytes. 100,000 files take 30 MiB; what is larger is not even fetched."""

_NODE = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # Linux: NAME_MAX, PATH_MAX without its NUL
_LONGEST_TEXT = 200
_MOST_NODES = 1_000_000
_BELOW_2_63 = range(1 << 63)
_CRC = range(1 << 64)
_ID = range((1 << 32) - 1)  # the highest means "leave it as it is" to chown(2)
_MODE = range(0o10000)
_TIME = range(-(1 << 63), 1 << 63)


def check_head(step: int, node: str, nodes: int, texts: Iterable[str]) -> None:
    """`texts` are shown on terminals."""
    if not 0 <= step < 10**18:
        raise ValueError(f"step {step} is out of range")
    if not _NODE.fullmatch(node):
        raise ValueError(f"{node[:_LONGEST_TEXT]!r} is no node's name")
    if not 0 <= nodes <= _MOST_NODES:
        raise ValueError(f"{nodes} nodes are out of range")
    for text in texts:
        if len(text) > _LONGEST_TEXT or not text.isprintable():
            raise ValueError(f"{text[:_LONGEST_TEXT]!r} is no name of a framework or program")


def check_key(key: str) -> None:
    """It must be the key of a path inside the volume."""
    path = path_of(key)
    parts = [*key.split("/"), *path.split("/")]
    if "\0" in path or f"{path}/".startswith(".ckptd/") or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"key {key[:_LONGEST_TEXT]!r} is no path of a volume")
    raw = path.encode("utf-8", "surrogateescape")
    if len(raw) > _LONGEST_PATH or max(map(len, raw.split(b"/"))) > _LONGEST_NAME:
        raise ValueError(f"key {key[:_LONGEST_TEXT]!r} is too long for a path")


def check_paths(paths: Sequence[str]) -> None:
    """Each at most once, and none of them the directory of another."""
    files = set(paths)
    if len(files) < len(paths):
        seen: set[str] = set()
        twice = next(path for path in paths if path in seen or seen.add(path))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice!r} is described twice")
    directories: set[str] = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in directories:
            directories.add(above)
            above = above.rpartition("/")[0]
    if both := files & directories:
        raise ValueError(f"{min(both)!r} is a file and a directory")


def check_link(target: str) -> None:
    raw = target.encode("utf-8", "surrogateescape")
    if not raw or len(raw) > _LONGEST_PATH or b"\0" in raw:
        raise ValueError(f"{target[:_LONGEST_TEXT]!r} is no target of a link")


def check_attributes(found: Attributes) -> None:
    """Bits beyond rwx may be said, and are never set (`tiers.attributes.apply`)."""
    if found.mode not in _MODE or found.uid not in _ID or found.gid not in _ID or found.mtime_ns not in _TIME:
        raise ValueError(f"{found} is out of range")


def check_sums(sums: Checksums) -> None:
    """As many parts as the size asks for; one part has the checksum of the whole."""
    if sums.size not in _BELOW_2_63 or sums.part_size not in _BELOW_2_63 or not sums.part_size:
        raise ValueError(f"size {sums.size} with parts of {sums.part_size} is out of range")
    expected = -(-sums.size // sums.part_size)
    if len(sums.parts) != expected:
        raise ValueError(f"{len(sums.parts)} parts where {sums.size} bytes have {expected}")
    if any(crc not in _CRC for crc in (sums.whole, *sums.parts)):
        raise ValueError("a checksum is out of range")
    if expected == 1 and sums.parts[0] != sums.whole:
        raise ValueError("the checksum of the only part is not that of the whole")
