"""Which files an index names: they belong to the checkpoint, and without one of them it is not whole.

Nothing here executes what it reads: DCP's `.metadata` is a pickle, and is searched for the strings in it. Nor is it trusted
to choose paths: absolute names and those with `..` are left out.
"""

from __future__ import annotations

import json
import pickletools
import re
import struct
from collections.abc import Callable, Iterable

from ckptd.layouts.containers import shards_of_tensorflow_index

Read = Callable[[int, int], bytes]

_PARSED = 256 * 1024
"""Larger JSON is searched with a regular expression, ten times quicker: an index of 10,000 shards has some 10 MB."""
_READ = 256 * 1024 * 1024
_SHARDS = 100_000
_VALUE = re.compile(rb':\s*"([^"\\]{1,255}\.(?:safetensors|bin|pt|pth|h5|msgpack))"')
_PART = b".distcp"
_LONGEST = 255
_ZERO = re.compile(r"(\w*zero_pp_rank_)0(_mp_rank_\d+_optim_states\.pt)", re.ASCII)
_ZERO_KEY = b"X\x0f\0\0\0partition_count"
_ZERO_READ = 1024 * 1024
"""The pickle with the structure stands at the beginning of a torch.save; the tensors follow."""
_JSON_INDEX = (".index.json", ".weights.json")


def reads_for(name: str) -> int:
    """How many bytes `required_by` wants of a file of this name; 0: it names no others."""
    if name == ".metadata" or name.endswith(_JSON_INDEX):
        return _READ
    if _ZERO.fullmatch(name):
        return _ZERO_READ
    return 16 if name.endswith(".index") else 0


def required_by(name: str, content: bytes) -> frozenset[str]:
    """The files that an index names, relative to its directory.

    `model.safetensors.index.json` (Hugging Face) and `model.weights.json` (Keras) map tensors to shards, DCP's `.metadata` to its
    `.distcp` files, TensorFlow's `ckpt-1.index` says how many data shards there are, and the optimizer states of DeepSpeed's
    first rank say over how many ranks they are spread.
    """
    found: Iterable[str] = ()
    if name.endswith(_JSON_INDEX):
        found = _of_json(content)
    elif name == ".metadata":
        found = _strings_of_pickle(content)
    elif name.endswith(".index"):
        count = shards_of_tensorflow_index(content) or 0
        stem = name.removesuffix(".index")
        found = (f"{stem}.data-{number:05d}-of-{count:05d}" for number in range(count if count <= _SHARDS else 0))
    elif zero := _ZERO.fullmatch(name):
        count = _partitions(content)
        found = (f"{zero[1]}{rank}{zero[2]}" for rank in range(1, count if count <= _SHARDS else 0))
    return frozenset(path for path in found if _stays_below(path))


def _of_json(content: bytes) -> set[str]:
    if len(content) > _PARSED:
        # One by one: `findall` would keep the interpreter's lock until the end, and stop every other thread.
        return {text.decode(errors="replace") for text in {found[1] for found in _VALUE.finditer(content)}}
    try:
        index = json.loads(content)
    except (ValueError, RecursionError):
        return set()
    shards = index.get("weight_map") if isinstance(index, dict) else None
    values = list(shards.values()) if isinstance(shards, dict) else []
    lists = [value if isinstance(value, list) else [value] for value in values]
    return {value for several in lists for value in several if isinstance(value, str)}


def _strings_of_pickle(content: bytes) -> set[str]:
    """Those that end in `.distcp`: a string stands behind its opcode and its length (pickletools: SHORT_BINUNICODE, BINUNICODE).

    0.1 s for the 23 MB of 10,000 files and 300,000 tensors; walking through the opcodes takes 14 s.
    """
    found: set[bytes] = set()
    end = content.find(_PART)
    while end >= 0:
        end += len(_PART)
        at = _start_of_string(content, end)
        if at is not None:
            found.add(content[at:end])
        end = content.find(_PART, end)
    return {text.decode(errors="replace") for text in found}


def _start_of_string(content: bytes, end: int) -> int | None:
    """Where the string that ends at `end` begins: behind an opcode and a length that fits. The nearest one counts."""
    for opcode, width in ((b"\x8c", 1), (b"X", 4)):
        lowest = max(0, end - _LONGEST - 1 - width)
        at = content.rfind(opcode, lowest, end - len(_PART) - width)
        while at >= 0:
            start = at + 1 + width
            if int.from_bytes(content[at + 1 : start], "little") == end - start:
                return start
            at = content.rfind(opcode, lowest, at)
    return None


def _partitions(content: bytes) -> int:
    """`partition_count` of the optimizer's state: a number, or a list with one for each parameter group. 0: not found."""
    at = content.find(_ZERO_KEY)
    if at < 0:
        return 0
    counts: list[int] = []
    listed = False
    start = at + len(_ZERO_KEY)
    try:
        for opcode, value, _ in pickletools.genops(content[start : start + 4096]):
            if isinstance(value, int) and opcode.name.startswith("BININT"):
                counts.append(value)
            elif opcode.name == "EMPTY_LIST" and not counts:
                listed = True
            elif opcode.name not in {"BINPUT", "LONG_BINPUT", "MARK"}:
                break
            if counts and not listed:
                break
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError, struct.error, AttributeError):
        pass  # what was found so far is what it says
    return max(counts, default=0)


def _stays_below(path: str) -> bool:
    parts = path.split("/")
    return bool(path) and "\0" not in path and not any(part in {"", ".", ".."} for part in parts)
