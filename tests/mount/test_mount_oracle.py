"""What is done to the mount has the result that it has on a plain tmpfs: values, errors, and all that is seen afterwards."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from tests_mount_calls import CALLS, FLAGS, MODES, NAMES, SIZES, USERS, Side, call, picture
from tests_mount_served import Served

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(600)]

name = some.sampled_from(NAMES)
often = some.sampled_from(NAMES[:8])
fd = some.integers(0, 3)
size = some.sampled_from(SIZES)
mode = some.sampled_from(MODES)
data = some.sampled_from([b"", b"x", b"hello", b"0123456789" * 500, b"\0" * 9000])
key = some.sampled_from(["user.a", "user.b", "user." + "k" * 250, "other.x"])
ID = some.sampled_from([-1, 0, 1001, 1002])
clock = some.sampled_from([None, 1000, 999_999, -1, -10])
ARGUMENTS = {
    "open": (often, some.sampled_from(FLAGS), mode),
    "close": (fd,),
    "pwrite": (fd, size, data),
    "write": (fd, data),
    "pread": (fd, size, size),
    "map": (fd, size, data),
    "ftruncate": (fd, size),
    "truncate": (often, size),
    "fallocate": (fd, some.sampled_from([0, 1, 3, 16]), size, size),
    "fsync": (fd,),
    "fchmod": (fd, mode),
    "lseek": (fd, size, some.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE])),
    "copy": (fd, fd, size, size, size),
    "unlink": (name,),
    "mkdir": (name, mode),
    "rmdir": (name,),
    "rename": (name, name),
    "rename2": (name, name, some.sampled_from([0, 1, 2, 3, 8])),
    "link": (often, name),
    "symlink": (some.sampled_from(["a", "d", "../e", "nowhere", "t" * 4000]), name),
    "mkfifo": (name, mode),
    "mknod": (name, mode),
    "chmod": (often, mode),
    "chown": (often, ID, ID),
    "times": (often, clock, clock),
    "setxattr": (often, key, some.sampled_from([b"", b"v", b"w" * 1000]), some.sampled_from([0, 0, 1, 2])),
    "getxattr": (often, key),
    "removexattr": (often, key),
    "access": (often, some.sampled_from([os.R_OK, os.W_OK, os.X_OK, os.F_OK])),
    "listdir": (often,),
    "readlink": (often,),
}
OFTEN = (
    ["open"] * 5
    + ["mkdir"] * 2
    + ["pwrite", "rename", "rename", "unlink", "unlink", "link", "chmod", "setxattr", "chown"]
)
steps = some.sampled_from([*CALLS, *OFTEN]).flatmap(
    lambda which: some.tuples(some.just(which), some.tuples(*ARGUMENTS[which]), some.integers(0, len(USERS) - 1))
)
START = [
    ("mkdir", ("d", 0o777), 0),
    ("mkdir", ("e", 0o2777), 0),
    ("open", ("a", os.O_CREAT | os.O_RDWR, 0o666), 2),
    ("chmod", ("d", 0o777), 0),
    ("chmod", ("e", 0o3777), 0),
]


def test_every_call_is_in_the_oracle() -> None:
    assert set(ARGUMENTS) == set(CALLS)


def test_every_user_reaches_the_tree(served: Served, plain: Path) -> None:
    """Two errors are equal too: users who may not even enter would make half of the comparison worth nothing."""
    for root in (served.path, plain):
        side = Side(root)
        for user in range(len(USERS)):
            assert call(side, "mkdir", f"{user}", 0o755, user=user) is None
        side.close()


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of a history with a large write in it
def test_the_mount_does_what_a_tmpfs_does(either: Served, plain: Path) -> None:
    number = 0

    @settings(
        max_examples=int(os.environ.get("CKPTD_ORACLE_EXAMPLES", "120")),
        database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(some.lists(steps, min_size=5, max_size=40))
    def compare(history: list) -> None:  # type: ignore[type-arg]
        nonlocal number
        number += 1
        sides = [Side(either.path / f"{number}"), Side(plain / f"{number}", reference=True)]
        for side in sides:
            side.root.mkdir(mode=0o777)
            side.root.chmod(0o777)
        try:
            for which, arguments, user in START + history:
                ours, theirs = (call(side, which, *arguments, user=user) for side in sides)
                assert ours == theirs, (which, arguments, user)
                seen, expected = (picture(side) for side in sides)
                assert seen == expected, (which, arguments, user)
        finally:
            for side in sides:
                side.close()
                shutil.rmtree(side.root)

    compare()
