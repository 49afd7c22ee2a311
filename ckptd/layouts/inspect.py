"""Whether one file's content can be whole, from its structure: nothing is unpacked, a few KiB are read.

Writers that die leave files that are cut short. Formats whose beginning or end says how long they are show it.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from ckptd.layouts.containers import (
    distcp_defect,
    hdf5_defect,
    is_tensorflow_index,
    ocdbt_manifest_defect,
    pickle_defect,
    tar_defect,
    tensorflow_index_defect,
)
from ckptd.layouts.formats import npy_defect, safetensors_defect, zip_defect
from ckptd.layouts.requirements import reads_for, required_by

__all__ = ["defect_of", "required_by", "requirements_of"]

Read = Callable[[int, int], bytes]
"""`read(offset, length)`; fewer bytes at the end of the file."""

_PARSED = 256 * 1024
"""Larger JSON files (a tokenizer's 10 MB) are looked at from both ends only: parsing them would take 0.1 s."""
_ZIP_ALWAYS = (".npz", ".keras", ".zip")
_ZIP_IF_IT_LOOKS_LIKE_ONE = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl", ".pickle", ".nemo")
_PICKLE = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".metadata")
"""Not `.bin`: anything may begin with 0x80."""
_TAR = (".tar", ".nemo")
_HDF5 = (".h5", ".hdf5")
_JSON_NAMES = frozenset({".zarray", ".zgroup", ".zattrs", ".zmetadata", "_METADATA", "_CHECKPOINT_METADATA"})
_NEVER_EMPTY = (
    ".pt", ".pth", ".ckpt", ".safetensors", ".npz", ".npy", ".keras", ".json", ".h5", ".hdf5", ".nemo", ".pkl", ".pickle",
    ".metadata", ".distcp", "manifest.ocdbt", *_JSON_NAMES,
)  # fmt: skip


def defect_of(name: str, size: int, read: Read) -> str | None:
    """Why a file of this name, `size` bytes long, is not whole; None if nothing speaks against it."""
    lower = name.lower()
    if size == 0:
        return "empty" if lower.endswith(_NEVER_EMPTY) or name in _JSON_NAMES else None
    if lower.endswith(".safetensors"):
        return safetensors_defect(size, read)
    if lower.endswith(".npy"):
        return npy_defect(size, read)
    if lower.endswith(".json") or name in _JSON_NAMES:
        return _json_defect(size, read) or (_orbax_defect(size, read) if name == "_CHECKPOINT_METADATA" else None)
    return _binary_defect(lower, size, read)


def _binary_defect(name: str, size: int, read: Read) -> str | None:
    start = read(0, 4)
    if name.endswith(_ZIP_ALWAYS) or (name.endswith(_ZIP_IF_IT_LOOKS_LIKE_ONE) and _begins(start, b"PK\x03\x04")):
        return zip_defect(size, read)
    if name.endswith(_PICKLE) and start[:1] == b"\x80":
        return pickle_defect(size, read)
    if name.endswith(_TAR):
        return tar_defect(size, read)
    if name.endswith(_HDF5):
        return hdf5_defect(size, read)
    if name.endswith(".distcp"):
        return distcp_defect(size, read)
    if name == "manifest.ocdbt":
        return ocdbt_manifest_defect(size, read)
    if name.endswith(".index") and is_tensorflow_index(start):
        return tensorflow_index_defect(size, read)
    return None


def _begins(start: bytes, magic: bytes) -> bool:
    """Also a file that was cut within the magic."""
    return start == magic[: len(start)]


def requirements_of(name: str, size: int, read: Read) -> frozenset[str]:
    """The files that the one of this name names (see `required_by`), relative to its directory."""
    wanted = min(reads_for(name), size)
    return required_by(name, read(0, wanted)) if wanted else frozenset()


def _orbax_defect(size: int, read: Read) -> str | None:
    """The commit time is null from the creation of the checkpoint until it is finalized (orbax, `StepMetadata`)."""
    try:
        said = json.loads(read(0, size)) if size <= _PARSED else None
    except (ValueError, RecursionError):
        return None
    if isinstance(said, dict) and said.get("init_timestamp_nsecs") and said.get("commit_timestamp_nsecs", 1) is None:
        return "has no commit time yet"
    return None


def _json_defect(size: int, read: Read) -> str | None:
    if size > _PARSED:
        first, last = read(0, 64).lstrip()[:1], read(size - 64, 64).rstrip()[-1:]
        return None if first + last in {b"{}", b"[]"} else "cut short: its last bracket is missing"
    try:
        json.loads(read(0, size))
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            return None  # a value a line, whatever the name says: not cut short
        return f"is no JSON: {error}"
    return None
