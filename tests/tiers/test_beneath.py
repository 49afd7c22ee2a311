"""What a job plants where a directory was must not lead the daemon out of the volume."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ckptd.domain.access import Owned
from ckptd.domain.errors import Conflict
from ckptd.tiers.beneath import directories_of, make_directories, opened_at, parent_of, unlink_link
from ckptd.tiers.lease import has_writer
from ckptd.tiers.recover import recover


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """`run` became a link to a directory outside, which has `file` and `link`."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    (outside / "link").symlink_to("/object")
    root = tmp_path / "volume"
    root.mkdir()
    (root / "run").symlink_to(outside)
    return root


def opens_at(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return opened_at(fd, str(path))
    finally:
        os.close(fd)


def test_a_file_behind_a_linked_directory_does_not_lie_at_its_path(volume: Path) -> None:
    assert not opens_at(volume / "run" / "file")
    assert opens_at(volume.parent / "outside" / "file")
    odd = volume / "two\nlines (deleted)"
    odd.write_text("")
    assert opens_at(odd)


def test_nothing_is_told_of_writers_behind_a_linked_directory(volume: Path) -> None:
    with open(volume.parent / "outside" / "file", "a", encoding="utf-8"):
        assert has_writer(str(volume / "run" / "file")) is None
        assert has_writer(str(volume.parent / "outside" / "file")) is True


def test_links_behind_a_linked_directory_stay(volume: Path) -> None:
    unlink_link(str(volume), "run/link", "/object")
    assert (volume / "run" / "link").is_symlink()
    with pytest.raises(Conflict), parent_of(str(volume), "run/link"):
        pass


def test_only_the_link_to_the_object_is_removed(volume: Path) -> None:
    (volume / "other").symlink_to("/other")
    (volume / "ours").symlink_to("/object")
    for name in ("other", "ours", "missing"):
        unlink_link(str(volume), name, "/object")
    assert sorted(os.listdir(volume)) == ["other", "run"]


def test_names_like_ours_that_a_job_uses_are_left_alone(volume: Path) -> None:
    (volume / ".ckptd-x" / "a").mkdir(parents=True)
    (volume / ".ckptd-0123456789ab").symlink_to("/")
    full = volume / ".ckptd-00000000000f" / "directory"
    full.mkdir(parents=True)
    (volume / "directory").mkdir()
    ours = volume / ".ckptd-ba9876543210"
    ours.mkdir()
    (ours / "model.bin").write_text("weights")
    assert recover(str(volume)) == ["model.bin"]
    assert (volume / ".ckptd-x" / "a").is_dir()
    assert (volume / ".ckptd-0123456789ab").is_symlink()
    assert full.is_dir()
    assert not ours.exists()


def test_all_directories_of_paths_come_before_those_in_them() -> None:
    assert directories_of(["run/a/b/x", "run/a/y", "z"]) == ["run", "run/a", "run/a/b"]


def test_directories_are_made_as_they_were_without_set_user_id(tmp_path: Path) -> None:
    make_directories(str(tmp_path), {"run/a": Owned(os.geteuid(), os.getegid(), 0o4711), "run": Owned(0, 0, 0o750)})
    modes = [(tmp_path / name).stat().st_mode & 0o7777 for name in ("run", "run/a")]
    assert modes == [0o750, 0o711]


def test_directories_are_not_made_behind_a_link(volume: Path) -> None:
    with pytest.raises(Conflict):
        make_directories(str(volume), {"run": Owned(0, 0, 0o755), "run/a": Owned(0, 0, 0o755)})
    assert not (volume.parent / "outside" / "a").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_as_root_a_directory_that_is_there_must_be_its_owners_or_roots(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for uid, mine in ((61001, True), (0, True), (61002, False)):
        os.chown(tmp_path / "run", uid, uid)
        if mine:
            make_directories(str(tmp_path), {"run": Owned(61001, 61001, 0o755)})
        else:
            with pytest.raises(Conflict, match="belongs to user 61002"):
                make_directories(str(tmp_path), {"run": Owned(61001, 61001, 0o755)})
    assert (tmp_path / "run").stat().st_uid == 61002, "it is left as it was"
