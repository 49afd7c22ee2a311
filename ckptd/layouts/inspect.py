"""Whether one file's content can be whole, from its structure: nothing is unpacked, a few KiB are read.

Writers that die leave files that are cut short. Formats whose beginning or end says how long they are show it.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from ckptd.layouts.formats import npy_defect, safetensors_defect, zip_defect

Read = Callable[[int, int], bytes]
"""`read(offset, length)`; fewer bytes at the end of the file."""

_PARSED = 256 * 1024
"""Larger JSON files (a tokenizer's 10 MB) are looked at from both ends only: parsing them would take 0.1 s."""
_ZIP_ALWAYS = (".npz", ".keras", ".zip")
_ZIP_IF_IT_LOOKS_LIKE_ONE = (".pt", ".pth", ".ckpt", ".bin", ".tar")
_NEVER_EMPTY = (".pt", ".pth", ".ckpt", ".safetensors", ".npz", ".npy", ".keras", ".json")


def defect_of(name: str, size: int, read: Read) -> str | None:
    """Why a file of this name, `size` bytes long, is not whole; None if nothing speaks against it."""
    lower = name.lower()
    if size == 0:
        return "empty" if lower.endswith(_NEVER_EMPTY) else None
    if lower.endswith(".safetensors"):
        return safetensors_defect(size, read)
    if lower.endswith(".npy"):
        return npy_defect(size, read)
    if lower.endswith(".json"):
        return _json_defect(size, read)
    if lower.endswith(_ZIP_ALWAYS) or (lower.endswith(_ZIP_IF_IT_LOOKS_LIKE_ONE) and read(0, 4) == b"PK\x03\x04"):
        return zip_defect(size, read)
    return None


def required_by(name: str, text: bytes) -> frozenset[str]:
    """The files that an index names, relative to its directory: `model.safetensors.index.json` lists its shards."""
    if not name.endswith(".index.json"):
        return frozenset()
    try:
        index = json.loads(text)
    except ValueError:
        return frozenset()
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        return frozenset()
    return frozenset(shard for shard in shards.values() if isinstance(shard, str))


def _json_defect(size: int, read: Read) -> str | None:
    if size > _PARSED:
        first, last = read(0, 64).lstrip()[:1], read(size - 64, 64).rstrip()[-1:]
        return None if first + last in {b"{}", b"[]"} else "cut short: its last bracket is missing"
    try:
        json.loads(read(0, size))
    except (ValueError, RecursionError) as error:
        return f"is no JSON: {error}"
    return None
