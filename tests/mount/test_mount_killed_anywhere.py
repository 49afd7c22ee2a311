"""The server is killed at every line of what it does for a call: each call happens once, and says so.

A run takes every STRIDE-th line from a beginning by chance; `CKPTD_TEST_STRIDE=1` takes all of them (minutes).
"""

from __future__ import annotations

import os
import random
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_mount_killed import Actor, Killed, kept

from ckptd.fronts.mount.wire import Op

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mount_killed_anywhere"), pytest.mark.timeout(1200)]
STRIDE = int(os.environ.get("CKPTD_TEST_STRIDE", "6"))
LONGEST = 400
"""Lines: no call has as many."""


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Killed]:
    with Killed(tmp_path) as mount:
        yield mount


@pytest.fixture
def actor(killed: Killed) -> Iterator[Actor]:
    made = Actor(killed.path)
    try:
        yield made
    finally:
        made.close()


def everywhere(
    killed: Killed,
    actor: Actor,
    op: Op,
    before: Callable[[], None],
    call: tuple[object, ...],
    after: Callable[[], None],
) -> int:
    """Returns at how many lines it died."""
    died = 0
    for line in range(random.randrange(STRIDE) + 1, LONGEST, STRIDE):
        before()
        killed.stop()
        killed.dying(op, line)
        actor.begin(*call)
        answered = _until_answer_or_death(killed, actor)
        said = actor.end() if answered else ""
        if answered and op is Op.RELEASE:  # close(2) does not wait for it
            answered = not _dies(killed)
        if not answered:
            died += 1
            killed.start()
        said = said or actor.end()
        assert said == "ok", f"killed at line {line}: {said}"
        if answered:
            killed.stop()
            killed.start()
        try:
            after()
        except AssertionError as error:
            raise AssertionError(f"killed at line {line}: {error}") from error
        if answered:
            return died
    raise AssertionError("it never got to the end")


def _until_answer_or_death(killed: Killed, actor: Actor) -> bool:
    assert actor.process.stdout is not None
    assert killed.server is not None
    while True:
        readable, _, _ = select.select([actor.process.stdout], [], [], 0.01)
        if readable:
            return not killed.has_died()
        if killed.has_died():
            return False


def _dies(killed: Killed) -> bool:
    """Within a RELEASE, whose last visible work is that a file without a name is gone."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if killed.has_died():
            return True
        if not kept(killed.backing):
            end = min(end, time.monotonic() + 0.5)
        time.sleep(0.01)
    return False


def names(killed: Killed) -> list[str]:
    return sorted(name for name in os.listdir(killed.backing) if not name.startswith(".ckptd-"))


def test_create(killed: Killed, actor: Actor) -> None:
    def after() -> None:
        assert names(killed) == ["new"]
        assert actor.do("write", "new", "content") == 7
        assert actor.do("read", "new") == "content"
        assert (killed.backing / "new").stat().st_mode & 0o777 == 0o640
        assert actor.do("close", "new") == "ok"
        assert (killed.backing / "new").read_text() == "content"
        assert actor.do("unlink", "new") == "ok"

    call = ("open", "new", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    assert everywhere(killed, actor, Op.CREATE, lambda: None, call, after)
    gone(killed)


def test_unlink_of_an_open_file(killed: Killed, actor: Actor) -> None:
    def before() -> None:
        assert actor.do("open", "file", os.O_CREAT | os.O_RDWR) == "ok"
        assert actor.do("write", "file", "content") == 7

    def after() -> None:
        assert names(killed) == []
        assert actor.do("read", "file") == "content"
        assert actor.do("close", "file") == "ok"
        gone(killed)

    assert everywhere(killed, actor, Op.UNLINK, before, ("unlink", "file"), after)
    gone(killed)


def test_rename_over_an_open_file(killed: Killed, actor: Actor) -> None:
    def before() -> None:
        for name in ("file", "new"):
            assert actor.do("open", name, os.O_CREAT | os.O_RDWR | os.O_TRUNC) == "ok"
            assert actor.do("write", name, name) == len(name)

    def after() -> None:
        assert names(killed) == ["file"]
        assert (actor.do("read", "file"), actor.do("read", "new")) == ("file", "new")
        assert (killed.backing / "file").read_text() == "new"
        for name in ("file", "new"):
            assert actor.do("close", name) == "ok"
        assert actor.do("unlink", "file") == "ok"
        gone(killed)

    assert everywhere(killed, actor, Op.RENAME2, before, ("replace", "new", "file"), after) or everywhere(
        killed, actor, Op.RENAME, before, ("replace", "new", "file"), after
    )
    gone(killed)


def test_rename_of_a_directory(killed: Killed, actor: Actor) -> None:
    def before() -> None:
        assert actor.do("mkdir", "tmp-1") == "ok"
        assert actor.do("open", "tmp-1/file", os.O_CREAT | os.O_RDWR) == "ok"
        assert actor.do("write", "tmp-1/file", "content") == 7

    def after() -> None:
        assert names(killed) == ["checkpoint-1"]
        assert actor.do("read", "tmp-1/file") == "content"
        assert actor.do("close", "tmp-1/file") == "ok"
        assert actor.do("unlink", "checkpoint-1/file") == "ok"
        assert actor.do("rmdir", "checkpoint-1") == "ok"

    assert everywhere(killed, actor, Op.RENAME, before, ("rename", "tmp-1", "checkpoint-1"), after) or everywhere(
        killed, actor, Op.RENAME2, before, ("rename", "tmp-1", "checkpoint-1"), after
    )


def test_making_names(killed: Killed, actor: Actor) -> None:
    def made() -> None:
        assert names(killed) == ["made"]
        assert actor.do("rmdir" if (killed.backing / "made").is_dir() else "unlink", "made") == "ok"

    assert everywhere(killed, actor, Op.MKDIR, lambda: None, ("mkdir", "made"), made)
    assert everywhere(killed, actor, Op.SYMLINK, lambda: None, ("symlink", "somewhere", "made"), made)

    def before() -> None:
        assert actor.do("open", "file", os.O_CREAT | os.O_RDWR) == "ok"
        assert actor.do("close", "file") == "ok"

    def linked() -> None:
        assert (killed.backing / "made").stat().st_nlink == 2
        for name in ("made", "file"):
            assert actor.do("unlink", name) == "ok"
        assert names(killed) == []

    assert everywhere(killed, actor, Op.LINK, before, ("link", "file", "made"), linked)


def test_rmdir(killed: Killed, actor: Actor) -> None:
    def before() -> None:
        assert actor.do("mkdir", "folder") == "ok"

    def after() -> None:
        assert names(killed) == []

    assert everywhere(killed, actor, Op.RMDIR, before, ("rmdir", "folder"), after)


def test_open_and_close(killed: Killed, actor: Actor) -> None:
    """Counted once: the last close of a file without a name takes it away, and no close before that does."""

    def before() -> None:
        assert actor.do("open", "file", os.O_CREAT | os.O_RDWR) == "ok"
        assert actor.do("write", "file", "content") == 7
        assert actor.do("close", "file") == "ok"

    def after() -> None:
        assert actor.do("unlink", "file") == "ok"
        assert actor.do("read", "file") == "content"
        assert len(kept(killed.backing)) == 1
        assert actor.do("close", "file") == "ok"
        gone(killed)

    assert everywhere(killed, actor, Op.OPEN, before, ("open", "file", os.O_RDWR), after)

    def open_without_name() -> None:
        before()
        assert actor.do("open", "file", os.O_RDWR) == "ok"
        assert actor.do("unlink", "file") == "ok"

    assert everywhere(killed, actor, Op.RELEASE, open_without_name, ("close", "file"), lambda: gone(killed))


def gone(killed: Killed) -> None:
    """RELEASE is not waited for by close(2)."""
    end = time.monotonic() + 2
    while kept(killed.backing) and time.monotonic() < end:
        time.sleep(0.01)
    assert kept(killed.backing) == []
