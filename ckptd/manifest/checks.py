"""What a manifest may say. Others may write to a remote too: it is not trusted to choose where files land, whose they are,
or how much memory they take.

All functions raise ValueError, saying what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ckptd.domain.names import path_of

MANIFEST_LIMIT = 256 * 1024 * 1024
"""Bytes. 100,000 files take 30 MiB; what is larger is not even fetched."""

_NO_NAMES = frozenset({"", ".", ".."})
_NOT_PLAIN = re.compile("[%\0]")
_PRIVATE = ".ckptd-"
"""Names that begin so are the daemon's own in a volume, and those of a job are never sent: no manifest of ours has one. In the
root of a mounted volume they are what keeps open files reachable.
"""
_NODE = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # Linux: NAME_MAX, PATH_MAX without its NUL
_LONGEST_TEXT = 200
_MOST_NODES = 1_000_000
_BELOW_2_63 = range(1 << 63)
_CRC = re.compile("[0-9a-f]{16}")
_ID = range((1 << 32) - 1)  # the highest means "leave it as it is" to chown(2)
_MODE = range(0o10000)  # bits beyond rwx may be said, and are never set (`tiers.attributes.apply`)
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


def check_job(number: object, uid: object, name: object, task: object) -> None:
    numbers = (number, uid, 0 if task is None else task)
    if not all(type(one) is int and one in _BELOW_2_63 for one in numbers):
        raise ValueError("a job's numbers are out of range")
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError("that is no job's name")


def check_key(key: str) -> None:
    """It must be the key of a path inside the volume."""
    above, _, name = key.rpartition("/")
    plain = name.isascii() and not _NOT_PLAIN.search(name) and name not in _NO_NAMES and len(name) <= _LONGEST_NAME
    plain = plain and not name.startswith(_PRIVATE)
    if not (plain and above and len(key) <= _LONGEST_PATH and _is_directory(above)):
        _check_any_key(key)


@lru_cache(maxsize=256)
def _is_directory(key: str) -> bool:
    """The files of a checkpoint mostly lie in one. Raises ValueError for what is no path."""
    _check_any_key(key)
    return True


def _check_any_key(key: str) -> None:
    path = path_of(key)
    parts = [*key.split("/"), *path.split("/")]
    if "\0" in path or f"{path}/".startswith(".ckptd/") or not _NO_NAMES.isdisjoint(parts):
        raise ValueError(f"key {key[:_LONGEST_TEXT]!r} is no path of a volume")
    if any(part.startswith(_PRIVATE) for part in path.split("/")):
        raise ValueError(f"key {key[:_LONGEST_TEXT]!r} has a name that is ckptd's own")
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


def check_directories(items: Iterable[Mapping[str, Any]], paths: Iterable[str]) -> None:
    """Of `directories`: each must be one that a file lies in."""
    above = {path.rpartition("/")[0] for path in paths}
    for path in list(above):
        while (path := path.rpartition("/")[0]) and path not in above:
            above.add(path)
    for item in items:
        if type(item["key"]) is not str or not item["key"] or path_of(item["key"]) not in above:
            raise ValueError(f"{str(item['key'])[:_LONGEST_TEXT]!r} is no directory of its files")
        _number(item, "mode", _MODE)
        _number(item, "uid", _ID)
        _number(item, "gid", _ID)


def check_file(item: Mapping[str, Any]) -> None:
    """One of `files`, as JSON gave it: what is made of it needs no other check."""
    if type(item["key"]) is not str:
        raise ValueError(f"{item['key']!r} is no key")
    check_key(item["key"])
    _number(item, "mode", _MODE)
    _number(item, "uid", _ID)
    _number(item, "gid", _ID)
    _number(item, "mtime_ns", _TIME)
    if "link" in item:
        check_link(path_of(item["link"]))
    else:
        if type(item.get("etag", "")) is not str:
            raise ValueError(f"{item['etag']!r} is no version")
        _check_sums(item)


def _number(item: Mapping[str, Any], name: str, among: range) -> int:
    value = item[name]
    if type(value) is not int or value not in among:
        raise ValueError(f"{name} {str(value)[:_LONGEST_TEXT]} is out of range")
    return value


def _check_sums(item: Mapping[str, Any]) -> None:
    """As many parts as the size asks for; one part has the checksum of the whole."""
    size, part_size, parts = _number(item, "size", _BELOW_2_63), _number(item, "part_size", _BELOW_2_63), item["parts"]
    if not part_size:
        raise ValueError(f"size {size} with parts of {part_size} is out of range")
    expected = -(-size // part_size)
    if len(parts) != expected:
        raise ValueError(f"{len(parts)} parts where {size} bytes have {expected}")
    for crc in (item["crc64nvme"], *parts):
        if not _CRC.fullmatch(crc):
            raise ValueError(f"{crc[:_LONGEST_TEXT]!r} is no checksum")
    if expected == 1 and parts[0] != item["crc64nvme"]:
        raise ValueError("the checksum of the only part is not that of the whole")
