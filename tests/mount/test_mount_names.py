"""Names: long ones, many in one directory, those that are not there, and several of one file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests_mount_served import Served, wait_for

pytestmark = pytest.mark.mount
MANY = 10_000


def refused(call: object, *arguments: object) -> int:
    with pytest.raises(OSError) as error:  # noqa: PT011 - the errno is what counts
        call(*arguments)  # type: ignore[operator]
    return error.value.errno or 0


@pytest.mark.parametrize("name", ["n" * 255, "\u00fc" * 127 + "n"], ids=["ascii", "two bytes a letter"])
def test_a_name_may_have_255_bytes(served: Served, name: str) -> None:
    top = served.path
    (top / name).write_bytes(b"x")
    assert os.listdir(top) == [name]
    os.rename(top / name, top / "short")
    os.link(top / "short", top / name)
    os.rename(top / "short", top / name)  # two names of one file: nothing happens
    assert sorted(os.listdir(top)) == sorted([name, "short"])
    os.unlink(top / name)
    os.symlink("short", top / name)
    assert (top / name).read_bytes() == b"x"
    os.unlink(top / name)
    os.mkdir(top / name)
    (top / name / name).write_bytes(b"y")
    assert (served.backing / name / name).read_bytes() == b"y"
    served.kill()
    served.start()  # the next server knows it too
    assert (top / name / name).read_bytes() == b"y"


@pytest.mark.parametrize("name", ["n" * 256, "\u00fc" * 128], ids=["ascii", "two bytes a letter"])
def test_a_name_of_256_bytes_is_too_long_for_every_call(served: Served, name: str) -> None:
    top, file = served.path, served.path / "file"
    file.write_bytes(b"x")
    calls = (
        (os.open, top / name, os.O_CREAT | os.O_WRONLY), (os.stat, top / name), (os.mkdir, top / name), (os.unlink, top / name),
        (os.symlink, "x", top / name), (os.link, file, top / name), (os.rename, file, top / name), (os.mkfifo, top / name),
        (os.rmdir, top / name),
    )  # fmt: skip
    assert {call[0].__name__: refused(*call) for call in calls} == {
        call[0].__name__: errno.ENAMETOOLONG for call in calls
    }
    assert os.listdir(top) == ["file"]


def test_names_of_ours_are_neither_shown_nor_given_in_the_root_and_nothing_special_below(served: Served) -> None:
    top = served.path
    assert os.listdir(top) == []
    assert ".ckptd-open" in os.listdir(served.backing)
    assert refused(os.stat, top / ".ckptd-open") == errno.ENOENT
    assert refused(os.mkdir, top / ".ckptd-x") == errno.EACCES
    assert refused(os.open, top / ".ckptd-x", os.O_CREAT | os.O_WRONLY) == errno.EACCES
    (top / "file").write_bytes(b"")
    assert refused(os.rename, top / "file", top / ".ckptd-x") == errno.EACCES
    (top / "d").mkdir()
    (top / "d/.ckptd-x").write_bytes(b"mine")
    assert (top / "d/.ckptd-x").read_bytes() == b"mine"


def test_ten_thousand_names_in_one_directory(served: Served) -> None:
    top = served.path / "many"
    top.mkdir()
    names = {f"file-{number:05}" for number in range(MANY)}
    for number, name in enumerate(sorted(names)):
        os.close(os.open(top / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        if number == MANY // 2:
            served.kill()
            served.start()
    assert sorted(os.listdir(top)) == sorted(names)
    with os.scandir(top) as entries:
        inodes = {entry.name: (entry.inode(), entry.stat().st_ino, entry.is_file()) for entry in entries}
    assert set(inodes) == names
    assert len({one for one, _, _ in inodes.values()}) == MANY
    assert all(listed == said and is_file for listed, said, is_file in inodes.values())
    removed = set(sorted(names)[::2])
    with os.scandir(top) as entries:
        listed = [next(entries).name]
        for name in removed:
            os.unlink(top / name)
        (top / "new").write_bytes(b"")
        served.kill()
        served.start()
        listed += [entry.name for entry in entries]
    assert len(listed) == len(set(listed)), "none twice"
    assert set(listed) >= names - removed, "none that stays is passed over, whatever goes meanwhile"
    assert set(os.listdir(top)) == names - removed | {"new"}
    for name in os.listdir(top):
        os.unlink(top / name)
    top.rmdir()
    assert os.listdir(served.path) == []


def test_a_name_that_was_not_there_is_seen_when_somebody_makes_it(served: Served) -> None:
    """What another process does through the mount, and what the daemon does in the tree behind it."""
    top = served.path
    (top / "d").mkdir()
    for name in ("file", "d/file"):
        assert refused(os.stat, top / name) == errno.ENOENT
        subprocess.run([sys.executable, "-c", "import sys; open(sys.argv[1], 'x')", top / name], check=True)
        assert os.stat(top / name).st_size == 0
    for name in ("later", "d/later"):
        assert refused(os.stat, top / name) == errno.ENOENT
        (served.backing / name).write_bytes(b"of the daemon")
        assert (top / name).read_bytes() == b"of the daemon"
    assert refused(os.listdir, top / "e") == errno.ENOENT
    (served.backing / "e").mkdir()
    assert os.listdir(top / "e") == []


def test_what_the_daemon_replaces_or_takes_away_is_seen_as_soon_as_it_says_so(served: Served) -> None:
    path = served.path / "file"
    path.write_bytes(b"old")
    assert path.stat().st_size == 3
    (served.backing / "new").write_bytes(b"longer")
    (served.backing / "new").rename(served.backing / "file")
    served.ask("invalidate", paths=["file"])
    until(lambda: path.stat().st_size == 6)
    assert path.read_bytes() == b"longer"
    (served.backing / "file").unlink()
    served.ask("invalidate", paths=["file"])
    until(lambda: not path.exists())


def until(condition: object) -> None:
    wait_for(condition, 0.9)  # after a second the kernel asks by itself


@pytest.mark.parametrize("gone", ["first", "second"])
def test_the_links_of_an_open_file_are_counted_by_the_names_it_has(served: Served, gone: str) -> None:
    """Whichever goes, we give the file another name in the private directory, which is nobody's business."""
    top = served.path
    (top / "first").write_bytes(b"x")
    os.link(top / "first", top / "second")
    (left,) = {"first", "second"} - {gone}
    with (top / "first").open("rb") as file:
        os.unlink(top / gone)
        for _ in range(2):
            assert os.stat(top / left).st_nlink == os.fstat(file.fileno()).st_nlink == 1
            with os.scandir(top) as entries:
                assert [entry.stat().st_nlink for entry in entries] == [1]
            served.kill()
            served.start()
            served.ask("invalidate", paths=[left])
        os.unlink(top / left)
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == b"x"
    assert os.listdir(top) == []


def test_a_directory_that_is_renamed_takes_all_below_along(served: Served) -> None:
    top = served.path
    deep: Path = top / "run/a/b/c"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    with (deep / "file").open("r+b") as file:
        inside = os.open(top / "run/a/b", os.O_RDONLY | os.O_DIRECTORY)
        (top / "run").rename(top / "other")
        file.write(b"y")
        file.flush()
        assert os.listdir(inside) == ["c"]
        os.close(inside)
    assert (top / "other/a/b/c/file").read_bytes() == b"y"
    assert refused(os.stat, top / "run") == errno.ENOENT
    assert refused(os.rename, top / "other", top / "other/a/below") == errno.EINVAL
    (top / "empty").mkdir()
    os.rename(top / "other", top / "empty")  # over an empty directory
    (top / "full/x").mkdir(parents=True)
    assert refused(os.rename, top / "empty", top / "full") == errno.ENOTEMPTY
    assert (top / "empty/a/b/c/file").read_bytes() == b"y"
