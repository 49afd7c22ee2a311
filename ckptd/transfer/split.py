"""How a file is divided into parts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ckptd.domain.model import Checksums

GRAIN = 1 << 20
"""A part size that has to grow grows to a multiple of this: whole pages, easy to read in a listing."""

STRETCH = 64 << 20
"""Bytes of a local copy that are checked in one call: long enough that the message about it costs nothing, short enough
to share a file among threads and to be paced."""


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    """From 1."""
    offset: int
    length: int


def part_size_for(size: int, wanted: int, *, min_part_size: int, max_parts: int) -> int:
    """The smallest size ≥ `wanted` that the store's limits allow for a file of `size` bytes."""
    chosen = max(wanted, min_part_size, 1)
    least = -(-size // max_parts)
    if least > chosen:
        chosen = -(-least // GRAIN) * GRAIN
    return chosen


def parts_of(size: int, part_size: int) -> Iterator[Part]:
    """All parts in order; every one but the last is `part_size` long. A file of 0 bytes has none."""
    for number, offset in enumerate(range(0, size, part_size), start=1):
        yield Part(number, offset, min(part_size, size - offset))


def stretches(checksums: Checksums) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Part numbers (from 1) and checksums of the parts that are checked in one call each, in order."""
    at_a_time = max(1, STRETCH // max(1, checksums.part_size))
    for begin in range(0, len(checksums.parts), at_a_time):
        yield begin + 1, checksums.parts[begin : begin + at_a_time]
