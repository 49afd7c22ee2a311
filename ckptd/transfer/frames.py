"""The wire between worker and movers: JSON documents, each after its length in four bytes.

Not pickle: a mover speaks with the network, and what it sends must not be able to run in the worker. File names that
are not UTF-8 travel as JSON escapes of their surrogates. `bytes` (manifests) travel as base64.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
import types
import typing
from functools import cache
from typing import Any, TypeVar

LENGTH = struct.Struct("!I")
LONGEST = 1 << 30
"""A frame above this is a broken peer, not a message."""

T = TypeVar("T")


def pack(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    return LENGTH.pack(len(text)) + text


def length_of(head: bytes) -> int:
    (length,) = LENGTH.unpack(head)
    if length > LONGEST:
        raise ValueError(f"a frame of {length} bytes")
    return int(length)


def unpack(body: bytes) -> dict[str, Any]:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise TypeError("a frame is an object")
    return document


def plain(value: Any) -> Any:
    """A dataclass (of dataclasses, tuples, numbers, text, bytes) as JSON can carry it."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value


def build(kind: type[T], value: Any) -> T:
    """The inverse of `plain`, told what to expect."""
    return typing.cast("T", _build(kind, value))


def _build(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return kind(**{name: _build(hint, value[name]) for name, hint in _hints(kind)})
    if kind is bytes:
        return base64.b64decode(value)
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        items = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_build(item, each) for item, each in zip(items, value, strict=True))
    if isinstance(kind, types.UnionType):
        some = [argument for argument in arguments if argument is not types.NoneType]
        return None if value is None else _build(some[0], value)
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} expected, {type(value).__name__} received")
    return value


@cache
def _hints(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(kind))
