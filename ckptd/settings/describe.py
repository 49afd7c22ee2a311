"""The effective settings as rows for `ckptctl config show`: key, value, where it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ckptd.settings.complaints import dotted
from ckptd.settings.document import KeyPath
from ckptd.settings.load import Effective
from ckptd.settings.quantities import Percent, format_size, format_time

_SIZES = frozenset({"budget", "part_size", "bandwidth", "remote_bandwidth", "user_budget", "user_pins"})
_TIMES = frozenset({"every", "settle", "shutdown_timeout"})


@dataclass(frozen=True, slots=True)
class Row:
    key: str
    value: str
    """As it would be written in the file (without quotes)."""
    origin: str
    """`FILE:LINE`, a variable, a flag, or `default`."""


def describe(effective: Effective) -> tuple[Row, ...]:
    """Every key, in the order of the file format."""
    return tuple(
        Row(dotted(key), _spelled(str(key[-1]), value), effective.origin(key))
        for key, value in _leaves(effective.settings, ())
    )


def _leaves(node: Any, prefix: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(node, BaseModel):
        pairs: list[tuple[str | int, Any]] = [(name, getattr(node, name)) for name in type(node).model_fields]
    elif isinstance(node, dict):
        pairs = list(node.items())
    elif isinstance(node, list):
        pairs = list(enumerate(node))
    else:
        yield prefix, node
        return
    for name, inner in pairs:
        yield from _leaves(inner, (*prefix, name))


def _spelled(name: str, value: Any) -> str:
    if name in _SIZES and not isinstance(value, Percent):
        return format_size(value)
    return format_time(value) if name in _TIMES else str(value)
