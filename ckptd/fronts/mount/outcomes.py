"""Exactly once: the journal of the last mutation, which decides what becomes of a request that is resent.

The server handles one request after the other and answers each before it reads the next. So of all requests that a killed server
had read, at most one was executed, in part or wholly: the last. (Those that wait for a file to be fetched were not begun.) One
record is enough:

    begin    before the mutation: the request's unique id, and what stands in the tree (inode numbers, 0: nothing there)
    finish   after it: the error or the answer, byte for byte
    (answer written to the kernel: from here on the kernel never resends this request)

A resent request whose outcome is recorded is answered with it. With the beginning only, `happened` compares what stood there
with what stands there now: nobody else changes names on the mount, so a difference is the mutation's work.

Operations that come out the same when they are done twice (SETATTR, WRITE at an offset, FALLOCATE, FSYNC, a SETXATTR without
conditions) need no record.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from ckptd.fronts.mount.wire import Op


class Phase(IntEnum):
    NONE = 0
    BEGUN = 1
    FINISHED = 2


@dataclass(frozen=True)
class Names:
    """What stands at the names of a mutation: inode numbers, 0 where there is nothing."""

    source: int = 0
    target: int = 0


def happened(op: int, before: Names, now: Names, *, exchange: bool = False) -> bool:
    """Whether a mutation whose beginning is recorded was carried out, from what stands at its names."""
    if op in {Op.RENAME, Op.RENAME2}:
        if exchange:
            return before.source != before.target and (now.source, now.target) == (before.target, before.source)
        if before.source == before.target:
            return False  # two names of one file: rename(2) does nothing, once or twice
        return now.target == before.source and now.source != before.source
    if op in {Op.UNLINK, Op.RMDIR, Op.REMOVEXATTR}:
        return now.source != before.source
    # What makes a name: it was absent.
    return before.target == 0 and now.target != 0


_RECORD = struct.Struct("<BxxxIQQQIIiI")
"""phase op unique source target slot opens error length-of-answer"""
_OUTCOME = struct.Struct("<iI")
_OUTCOME_AT = _RECORD.size - _OUTCOME.size
_COUNTED = struct.Struct("<II")
_COUNTED_AT = _OUTCOME_AT - _COUNTED.size
LONGEST = 512
"""Bytes of an answer that can be kept. The longest is that of CREATE: 144."""


class Outcomes:
    """`buffer` and `at`: where the record lies. The buffer may grow, so it is looked up each time."""

    def __init__(self, buffer: object, at: int) -> None:
        self._buffer: bytearray = buffer  # type: ignore[assignment]  # an mmap, of which there is no common type with bytearray
        self._at = at
        self.open = False
        """A mutation was begun by the request that is being handled."""

    def begin(self, op: int, unique: int, before: Names) -> None:
        _RECORD.pack_into(self._buffer, self._at, 0, op, unique, before.source, before.target, 0, 0, 0, 0)
        self._buffer[self._at] = Phase.BEGUN
        self.open = True

    def counted(self, slot: int, opens: int) -> None:
        """Noted before a node's count of opens changes from `opens`."""
        _COUNTED.pack_into(self._buffer, self._at + _COUNTED_AT, slot, opens)

    def finish(self, error: int, answer: bytes) -> None:
        start = self._at + _RECORD.size
        _OUTCOME.pack_into(self._buffer, self._at + _OUTCOME_AT, error, len(answer))
        self._buffer[start : start + len(answer)] = answer
        self._buffer[self._at] = Phase.FINISHED
        self.open = False

    def outcome(self, unique: int) -> tuple[int, bytes] | None:
        """Of a resent request that was executed: error and answer."""
        phase, _, recorded, _, _, _, _, error, length = _RECORD.unpack_from(self._buffer, self._at)
        if phase != Phase.FINISHED or recorded != unique:
            return None
        start = self._at + _RECORD.size
        return error, bytes(self._buffer[start : start + length])

    def begun(self, unique: int) -> Names | None:
        """Of a resent request of which nobody knows whether it was executed: what stood there before."""
        phase, _, recorded, source, target, _, _, _, _ = _RECORD.unpack_from(self._buffer, self._at)
        return Names(source, target) if phase == Phase.BEGUN and recorded == unique else None

    def undecided_count(self) -> tuple[int, int] | None:
        """Slot and opens before, of a request that was begun and not finished; None where no count was to change."""
        phase, _, _, _, _, slot, opens, _, _ = _RECORD.unpack_from(self._buffer, self._at)
        return (slot, opens) if phase == Phase.BEGUN and slot else None
