"""What outlives the server: a shared mapping of a file that the holder keeps open.

A page of header, then slots of one size, one a node that the kernel knows. SIGKILL stops a process between two instructions and
takes nothing from a shared mapping; so what counts is the order of stores. Whatever makes a record valid is stored last, alone.

    header   magic, version; what INIT agreed; the newest backing id; the node that was given out last, and to which request;
             whether fsync asks the daemon
    journal  one record: the outcome of the last mutation (outcomes.py)
    slots    node id, identity (device and inode), count of lookups, opens, backing id, parent and name (nodes.py)

A slot holds one name of its node. A name that was torn by a kill leads to no file or to another one; both are noticed, because
the inode number is compared whenever a name is used.
"""

from __future__ import annotations

import mmap
import os
import struct

from ckptd.fronts.mount.negotiation import Negotiated

MAGIC = b"ckptdmnt"
VERSION = 1
HEADER = 4096
SLOT = 320
JOURNAL_AT = 1024
JOURNAL_SIZE = 1024
FIRST_SLOTS = 1024

_HEAD = struct.Struct("<8sII")
_INIT = struct.Struct("<IIQI")
"""agreed (1) minor flags max_write"""
_INIT_AT = 64
_BACKING = struct.Struct("<I")
_BACKING_AT = 128
_GIVEN = struct.Struct("<QII")
"""request slot count-before"""
_GIVEN_AT = 192

_FSYNC_AT = 256
"""One byte. 1: fsync asks the daemon; 0: it is local, or nobody has said anything yet."""

_FIXED = struct.Struct("<BBHIQQQQII")
"""used flags namelen nlookup nodeid ino dev parent backing opens"""
_NLOOKUP_AT, _BACKING_IN_SLOT, _OPENS_AT, _PARENT_AT = 4, 40, 44, 32
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_NAME_AT = _FIXED.size


def understands(fd: int) -> bool:
    """Whether the state that an earlier server left can be gone on with."""
    found = os.pread(fd, _HEAD.size, 0)
    return len(found) == _HEAD.size and _HEAD.unpack(found) == (MAGIC, VERSION, SLOT)


class Slot:
    """A record as it was read at takeover."""

    __slots__ = ("backing", "dev", "flags", "index", "ino", "name", "nlookup", "nodeid", "opens", "parent")

    def __init__(self, index: int, fields: tuple[int, ...], name: bytes) -> None:
        self.index, self.name = index, name
        _, self.flags, _, self.nlookup, self.nodeid, self.ino, self.dev, self.parent, self.backing, self.opens = fields


class State:
    """Raises ValueError for a file that is something else."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        size = os.fstat(fd).st_size
        self.fresh = size < HEADER
        if self.fresh:
            os.ftruncate(fd, HEADER + FIRST_SLOTS * SLOT)
        self.map = mmap.mmap(fd, 0)
        if self.fresh:
            _HEAD.pack_into(self.map, 0, MAGIC, VERSION, SLOT)
        elif _HEAD.unpack_from(self.map) != (MAGIC, VERSION, SLOT):
            raise ValueError("the state of the mount is of another version of ckptd: unmount and mount again")
        self._slots = (len(self.map) - HEADER) // SLOT
        # 0 means "no slot"; 1 is the root, whose node id is given by the protocol.
        self._free: list[int] = []
        self._untouched = 2

    # ---- what INIT agreed

    @property
    def negotiated(self) -> Negotiated | None:
        agreed, minor, flags, max_write = _INIT.unpack_from(self.map, _INIT_AT)
        return Negotiated(minor, flags, max_write) if agreed else None

    @negotiated.setter
    def negotiated(self, what: Negotiated) -> None:
        _INIT.pack_into(self.map, _INIT_AT, 0, what.minor, what.flags, what.max_write)
        _U32.pack_into(self.map, _INIT_AT, 1)

    # ---- the newest backing id

    @property
    def newest_backing(self) -> int:
        return int(_BACKING.unpack_from(self.map, _BACKING_AT)[0])

    @newest_backing.setter
    def newest_backing(self, id: int) -> None:
        _BACKING.pack_into(self.map, _BACKING_AT, id)

    # ---- what fsync waits for

    @property
    def fsync_asks(self) -> bool:
        return self.map[_FSYNC_AT] == 1

    @fsync_asks.setter
    def fsync_asks(self, asks: bool) -> None:
        self.map[_FSYNC_AT] = asks

    # ---- which node went out last

    def give(self, request: int, slot: int, before: int) -> None:
        """Counts a lookup. The request is noted first, so that the count is taken back if its answer never left."""
        _GIVEN.pack_into(self.map, _GIVEN_AT, request, slot, before)
        _U32.pack_into(self.map, HEADER + slot * SLOT + _NLOOKUP_AT, before + 1)

    def given(self) -> tuple[int, int, int]:
        """Of the last `give`: request, slot, count before."""
        return _GIVEN.unpack_from(self.map, _GIVEN_AT)

    def give_nothing(self) -> None:
        _GIVEN.pack_into(self.map, _GIVEN_AT, 0, 0, 0)

    # ---- slots

    def allocate(self) -> tuple[int, int]:
        """A free slot and the node id that goes with it: the slot below, a number above that no earlier user of it had."""
        if self._free:
            index = self._free.pop()
        else:
            index = self._untouched
            self._untouched += 1
            if index >= self._slots:
                self._grow()
        before = _U64.unpack_from(self.map, HEADER + index * SLOT + 8)[0]
        return index, ((before >> 32) + 1) << 32 | index

    def _grow(self) -> None:
        self._slots *= 2
        os.ftruncate(self._fd, HEADER + self._slots * SLOT)
        self.map.resize(HEADER + self._slots * SLOT)

    def put(self, index: int, nodeid: int, ino: int, dev: int, parent: int, name: bytes, flags: int) -> None:
        at = HEADER + index * SLOT
        _FIXED.pack_into(self.map, at, 0, flags, len(name), 0, nodeid, ino, dev, parent, 0, 0)
        self.map[at + _NAME_AT : at + _NAME_AT + len(name)] = name
        self.map[at] = 1

    def rename(self, index: int, parent: int, name: bytes) -> None:
        at = HEADER + index * SLOT
        _U64.pack_into(self.map, at + _PARENT_AT, parent)
        self.map[at + 2 : at + 4] = len(name).to_bytes(2, "little")
        self.map[at + _NAME_AT : at + _NAME_AT + len(name)] = name

    def identify(self, index: int, ino: int, dev: int) -> None:
        """A cold file has come: its node is that of a real one from now on."""
        struct.pack_into("<QQ", self.map, HEADER + index * SLOT + 16, ino, dev)

    def set_nlookup(self, index: int, count: int) -> None:
        _U32.pack_into(self.map, HEADER + index * SLOT + _NLOOKUP_AT, count)

    def set_opens(self, index: int, count: int) -> None:
        _U32.pack_into(self.map, HEADER + index * SLOT + _OPENS_AT, count)

    def set_backing(self, index: int, id: int) -> None:
        _U32.pack_into(self.map, HEADER + index * SLOT + _BACKING_IN_SLOT, id)

    def set_flags(self, index: int, flags: int) -> None:
        self.map[HEADER + index * SLOT + 1] = flags

    def drop(self, index: int) -> None:
        self.map[HEADER + index * SLOT] = 0
        self._free.append(index)

    def load(self) -> list[Slot]:
        """All slots in use, at takeover. Rebuilds the list of free ones."""
        found = []
        self._free.clear()
        last = 1
        for index in range(2, self._slots):
            at = HEADER + index * SLOT
            fields = _FIXED.unpack_from(self.map, at)
            if fields[4]:
                last = index
            if fields[0]:
                found.append(Slot(index, fields, bytes(self.map[at + _NAME_AT : at + _NAME_AT + min(fields[2], 255)])))
        used = {slot.index for slot in found}
        self._untouched = last + 1
        self._free = [index for index in range(last, 1, -1) if index not in used]
        return found
