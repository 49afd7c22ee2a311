"""Who sees and steers a run: compared with what the kernel says of the same directory, and the rules beyond it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckptd.domain.access import ALL, NONE, Identity, Owned, Whose, acl_from, of_files, rights
from ckptd.tiers.ownership import owned

ALICE, BOB, ROOT = (
    Identity(1001, frozenset({1001, 50})),
    Identity(1002, frozenset({1002, 50})),
    Identity(0, frozenset(), True),
)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def may(who: Identity, *owners: Owned, top: Owned | None = None):
    return rights(who, Whose(top, owners))


def test_owner_group_and_others_get_what_the_mode_gives_them():
    shared = Owned(1001, 50, 0o750)
    assert may(ALICE, shared) == ALL
    assert (may(BOB, shared).see, may(BOB, shared).steer) == (True, False)
    assert may(BOB, Owned(1001, 50, 0o770)) == ALL
    assert may(BOB, Owned(1001, 1001, 0o750)) == NONE
    assert may(ROOT, Owned(1001, 1001, 0o700)) == ALL


def test_a_group_with_fewer_rights_than_others_keeps_its_member_out():
    assert may(BOB, Owned(1001, 50, 0o705)) == NONE


def test_in_a_sticky_directory_only_its_owner_steers():
    assert (may(BOB, Owned(1001, 50, 0o1777)).see, may(BOB, Owned(1001, 50, 0o1777)).steer) == (True, False)
    assert may(ALICE, Owned(1001, 50, 0o1777)) == ALL


def test_a_directory_of_that_name_gives_nobody_what_the_remote_records_as_anothers():
    recorded = Owned(1001, 1001, 0o700)
    assert may(BOB, Owned(1002, 1002, 0o755), recorded) == NONE
    assert may(BOB, Owned(1002, 1002, 0o755), Owned(1001, 50, 0o750)).steer is False
    assert may(ALICE, recorded, recorded) == ALL


def test_who_may_not_enter_the_volume_gets_to_no_run_in_it():
    assert may(BOB, Owned(1002, 1002, 0o755), top=Owned(0, 0, 0o700)) == NONE
    assert may(BOB, Owned(1002, 1002, 0o755), top=Owned(0, 0, 0o711)) == ALL


def test_without_any_owner_there_is_no_run():
    assert may(BOB) == NONE


def test_a_run_without_a_directory_is_theirs_who_wrote_all_of_it():
    assert of_files([]) is None
    one, mixed = of_files([(1001, 50, 0o640), (1001, 50, 0o644)]), of_files([(1001, 50, 0o666), (1002, 50, 0o666)])
    assert one is not None
    assert may(ALICE, one) == ALL
    assert (may(BOB, one).see, may(BOB, one).steer) == (True, False)
    assert may(Identity(1003, frozenset({1003})), one) == NONE
    assert mixed is not None
    assert (may(ALICE, mixed).see, may(ALICE, mixed).steer) == (True, False)


def entries(*given_: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in given_)


def test_what_is_no_acl_is_refused():
    for raw in (b"", b"\1\0\0\0", entries()[:3], entries((1, 7, 0))[:-1]):
        with pytest.raises(ValueError, match="ACL"):
            acl_from(raw)


_UIDS = (40001, 40002, 40003)
_ACLS = st.fixed_dictionaries({
    "owner": st.integers(0, 7), "group": st.integers(0, 7), "other": st.integers(0, 7), "mask": st.integers(0, 7),
    "user": st.none() | st.tuples(st.sampled_from(_UIDS), st.integers(0, 7)),
    "named": st.none() | st.tuples(st.sampled_from(_UIDS), st.integers(0, 7)),
})  # fmt: skip


@root_only
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acl=_ACLS, uid=st.sampled_from(_UIDS), gids=st.sets(st.sampled_from(_UIDS)))
def test_read_and_write_are_what_the_kernel_says_acls_included(tmp_path: Path, acl, uid, gids):
    directory = Path("/dev/shm") / f"ckptd-acl-{os.getpid()}"  # where nobody is kept out above
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        os.chown(directory, _UIDS[0], _UIDS[1])
        raw = [(1, acl["owner"], 0xFFFFFFFF), (4, acl["group"], 0xFFFFFFFF), (0x20, acl["other"], 0xFFFFFFFF)]
        raw += [(2, acl["user"][1], acl["user"][0])] if acl["user"] else []
        raw += [(8, acl["named"][1], acl["named"][0])] if acl["named"] else []
        if acl["user"] or acl["named"]:
            raw.append((0x10, acl["mask"], 0xFFFFFFFF))
        try:
            os.setxattr(directory, "system.posix_acl_access", entries(*sorted(raw)))
        except OSError as error:
            pytest.skip(f"no ACLs here: {error}")
        seen = owned(str(directory))
        assert seen is not None
        found = rights(Identity(uid, frozenset({uid, *gids})), Whose(None, (seen,)))
        kernel = asked_as(uid, {uid, *gids}, str(directory))
    finally:
        directory.rmdir()
    if uid != _UIDS[0]:  # the owner may do everything: what the mode denies him, he may change
        assert (found.see, found.steer) == (kernel[0], kernel[0] and kernel[1])


def asked_as(uid: int, gids: set[int], path: str) -> tuple[bool, bool]:
    """Read, and write with search, as access(2) answers that user."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups(sorted(gids))
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        os.write(writing, bytes([os.access(path, os.R_OK), os.access(path, os.W_OK | os.X_OK)]))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading, "rb") as answer:
        read, write = answer.read()
    return bool(read), bool(write)
