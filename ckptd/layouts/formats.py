"""How long a file says it is: safetensors, zip (torch, npz, keras) and npy."""

from __future__ import annotations

import ast
import json
import math
import re
import struct
from collections.abc import Callable

Read = Callable[[int, int], bytes]

_HEADER_LIMIT = 100_000_000  # safetensors' own limit for its header
_CHECKED_HEADER = 32 * 1024 * 1024
_SHORT = "cut short"


def safetensors_defect(size: int, read: Read) -> str | None:
    """8 bytes of header length, a JSON header with each tensor's offsets, then the tensors.

    https://huggingface.co/docs/safetensors/index#format: the last tensor ends where the file does.
    """
    if size < 8:
        return f"{_SHORT}: {size:,} bytes are less than a header"
    (length,) = struct.unpack("<Q", read(0, 8))
    if length > _HEADER_LIMIT:
        return f"its header claims {length:,} bytes"
    if 8 + length > size:
        return f"{_SHORT}: header promises {8 + length:,} bytes, file has {size:,}"
    if length > _CHECKED_HEADER:
        return None
    try:
        header = json.loads(read(8, length))
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        end = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return "its header cannot be read"
    if end > size:
        return f"{_SHORT}: header promises {end:,} bytes, file has {size:,}"
    return f"has {size - end:,} bytes too many" if end < size else None


_END = b"PK\x05\x06"
_END_SIZE = 22
_END64 = b"PK\x06\x06"
_LOCATOR64 = b"PK\x06\x07"
_CENTRAL = b"PK\x01\x02"


def zip_defect(size: int, read: Read) -> str | None:
    """The directory stands at the end and says where it begins (APPNOTE.TXT 4.3.16, zip64: 4.3.14 and 4.3.15)."""
    tail_at = max(0, size - _END_SIZE - 65_535)
    tail = read(tail_at, size - tail_at)
    found = tail.rfind(_END)
    if found < 0 or len(tail) - found < _END_SIZE:
        return f"{_SHORT}: the zip directory at its end is missing"
    entries, length, start, comment = struct.unpack("<10xHIIH", tail[found : found + _END_SIZE])
    end_at = tail_at + found
    if end_at + _END_SIZE + comment != size:
        return f"{_SHORT}, or has something else at its end"
    directory_end = end_at
    locator = read(end_at - 20, 20) if end_at >= 20 else b""
    if locator[:4] == _LOCATOR64:  # torch.save writes it always, whether the numbers fit into 32 bits or not
        (directory_end,) = struct.unpack("<8xQ4x", locator)
        record = read(directory_end, 56)
        if record[:4] != _END64 or len(record) < 56:
            return "its zip64 directory is not where it says"
        entries, length, start = struct.unpack("<32xQQQ", record)
    if start + length != directory_end:
        return "its zip directory is not where it says"
    if entries and read(start, 4) != _CENTRAL:
        return "its zip directory is not where it says"
    return None


_ITEM = re.compile(r"[<>=|]?[?bBiufcmMSUVO](\d+)")


def npy_defect(size: int, read: Read) -> str | None:
    """Magic, version, header length, a Python literal with type and shape, then the values (numpy.lib.format)."""
    magic = read(0, 12)
    if magic[:6] != b"\x93NUMPY"[: len(magic)]:
        return "is no npy file"
    if len(magic) < 10 or (magic[6] > 1 and len(magic) < 12):
        return f"{_SHORT}: {size:,} bytes are less than a header"
    start, length = (
        (10, int.from_bytes(magic[8:10], "little")) if magic[6] == 1 else (12, int.from_bytes(magic[8:12], "little"))
    )
    if start + length > size or length > _CHECKED_HEADER:
        return f"{_SHORT}: header promises {start + length:,} bytes, file has {size:,}"
    try:
        header = ast.literal_eval(read(start, length).decode("utf-8" if magic[6] > 2 else "latin-1"))
        item = _ITEM.fullmatch(header["descr"]) if isinstance(header["descr"], str) else None
        count = math.prod(header["shape"])
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        return "its header cannot be read"
    if item is None or header["descr"].endswith("O"):
        return None  # records and pickled objects: their length is not in the header
    width = int(item[1]) * (4 if "U" in header["descr"] else 1)
    end = start + length + count * width
    if end > size:
        return f"{_SHORT}: header promises {end:,} bytes, file has {size:,}"
    return f"has {size - end:,} bytes too many" if end < size else None
