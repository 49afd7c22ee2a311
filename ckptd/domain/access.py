"""Who may see a run, and who may steer it: what the kernel would say of the run's directory. Pure.

*See*: list it, read its checkpoints, verify them. *Steer*: prefetch, pin, tag, evict and remove them, and set its policy.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

NOBODY = -1
"""No user and no group has this id."""

_READ, _WRITE, _SEARCH = 4, 2, 1
_STICKY = 0o1000
_ACL_VERSION = 2
_ACL_HEAD, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP_OF_FILE, _ACL_GROUP, _ACL_MASK = 0x02, 0x04, 0x08, 0x10


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, by the kernel's word."""

    uid: int
    gids: frozenset[int]
    """The supplementary ones too."""
    administrator: bool = False
    """May do everything: root, the daemon's own user, a member of `[access] admin_group`."""


class AclEntry(NamedTuple):
    """Of a POSIX ACL (acl(5)), as `system.posix_acl_access` holds them."""

    tag: int
    permissions: int
    id: int


@dataclass(frozen=True, slots=True)
class Owned:
    """Whose a directory is."""

    uid: int
    gid: int
    mode: int
    """With the sticky bit: in such a directory only its owner steers what others have put there."""
    acl: tuple[AclEntry, ...] = ()
    """Empty: it has none beyond its mode."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose a run is."""

    top: Owned | None = None
    """The volume's directory: who may not enter it gets to no run in it."""
    owners: tuple[Owned, ...] = ()
    """Of its directory here, and as the remote's manifests have it. Each must allow what is asked, so that nobody comes by
    another's checkpoints by making a directory of their name. None: there is no such run.
    """


@dataclass(frozen=True, slots=True)
class Rights:
    see: bool
    steer: bool


ALL, NONE = Rights(see=True, steer=True), Rights(see=False, steer=False)


def rights(identity: Identity, whose: Whose) -> Rights:
    if identity.administrator:
        return ALL
    if not whose.owners or (whose.top is not None and not _allows(identity, whose.top, _SEARCH)):
        return NONE
    found = [_of_one(identity, owner) for owner in whose.owners]
    see = all(one.see for one in found)
    return Rights(see, see and all(one.steer for one in found))


def _of_one(identity: Identity, owned: Owned) -> Rights:
    if identity.uid == owned.uid:
        return ALL  # what the mode denies him, he may change
    writes = _allows(identity, owned, _WRITE | _SEARCH) and not owned.mode & _STICKY
    return Rights(see=_allows(identity, owned, _READ), steer=writes)


def _allows(identity: Identity, owned: Owned, wanted: int) -> bool:
    """By the algorithm of acl(5); without an ACL that is the one of the nine mode bits."""
    if identity.uid == owned.uid:
        return owned.mode >> 6 & wanted == wanted
    mask = next((entry.permissions for entry in owned.acl if entry.tag == _ACL_MASK), 7)
    for entry in owned.acl:
        if entry.tag == _ACL_USER and entry.id == identity.uid:
            return entry.permissions & mask & wanted == wanted
    groups = list(_of_groups(identity, owned))
    if groups:
        return any(one & mask & wanted == wanted for one in groups)
    return owned.mode & wanted == wanted


def _of_groups(identity: Identity, owned: Owned) -> Iterable[int]:
    if not owned.acl:
        if owned.gid in identity.gids:
            yield owned.mode >> 3 & 7
        return
    for entry in owned.acl:
        group = owned.gid if entry.tag == _ACL_GROUP_OF_FILE else entry.id
        if entry.tag in (_ACL_GROUP_OF_FILE, _ACL_GROUP) and group in identity.gids:
            yield entry.permissions


def acl_from(raw: bytes) -> tuple[AclEntry, ...]:
    """Of the extended attribute `system.posix_acl_access` (linux/posix_acl_xattr.h). Raises ValueError for anything else."""
    if len(raw) < _ACL_HEAD.size or _ACL_HEAD.unpack_from(raw)[0] != _ACL_VERSION:
        raise ValueError("not a POSIX ACL of version 2")
    if (len(raw) - _ACL_HEAD.size) % _ACL_ENTRY.size:
        raise ValueError("a POSIX ACL that is cut short")
    return tuple(AclEntry(*fields) for fields in _ACL_ENTRY.iter_unpack(raw[_ACL_HEAD.size :]))


def of_files(files: Iterable[tuple[int, int, int]]) -> Owned | None:
    """Of a run without a directory, by uid, gid and mode of its files: theirs who wrote all of them steer it, and those see it
    who may read all of them. None without any.
    """
    uids, gids, mode = set[int](), set[int](), 0o444
    for uid, gid, its in files:
        uids.add(uid)
        gids.add(gid)
        mode &= its
    if not uids:
        return None
    return Owned(uids.pop() if len(uids) == 1 else NOBODY, gids.pop() if len(gids) == 1 else NOBODY, mode)
