"""Giving a file another place, and refusing to while somebody uses it."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ckptd.domain.errors import Busy, Conflict, IntegrityError, SourceChanged
from ckptd.domain.model import Attributes, Stamp
from ckptd.tiers import lease, swap

HOLD = """
import mmap, os, sys
path, how = sys.argv[1:]
if how == "map":
    fd = os.open(path, os.O_RDONLY); kept = mmap.mmap(fd, 0, prot=mmap.PROT_READ); os.close(fd)
else:
    kept = open(path, how)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path, how: str) -> Iterator[None]:
    """Another process has the file open (or mapped, after closing it)."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        yield


class Volume:
    def __init__(self, base: Path) -> None:
        self.root = base / "volume"
        self.objects = base / "objects"
        for directory in (self.root / "run", self.objects):
            directory.mkdir(parents=True)
        self.file = self.root / "run" / "model.pt"
        self.file.write_bytes(b"weights")
        self.copy = self.objects / "7"
        self.copy.write_bytes(b"weights")
        self.staged = base / "staged"

    @property
    def stamp(self) -> Stamp:
        found = swap.stamp_of(str(self.file))
        assert found is not None
        return found

    @property
    def copy_stamp(self) -> Stamp:
        found = swap.stamp_of(str(self.copy))
        assert found is not None
        return found

    def link_out(self) -> swap.Certainty:
        return swap.link_out(str(self.root), "run/model.pt", self.stamp, str(self.copy))

    def entries(self) -> list[str]:
        return sorted(os.listdir(self.root / "run"))


@pytest.fixture
def volume(place: Path) -> Volume:
    return Volume(place)


MINE = Attributes(0o640, os.getuid(), os.getgid(), 1_700_000_000_123_456_789)


def test_a_demoted_file_is_a_link_that_reads_the_same(volume: Volume) -> None:
    assert volume.link_out() is swap.Certainty.LEASE
    assert os.readlink(volume.file) == str(volume.copy)
    assert volume.file.read_bytes() == b"weights"
    assert volume.entries() == ["model.pt"]


@pytest.mark.parametrize("how", ["rb", "r+b", "ab", "map"])
def test_a_file_that_is_open_elsewhere_stays(volume: Volume, how: str) -> None:
    with held(volume.file, how):
        with pytest.raises(Busy):
            volume.link_out()
        with pytest.raises(Busy):
            swap.remove(str(volume.root), "run/model.pt", volume.stamp)
    assert not volume.file.is_symlink()
    assert volume.file.read_bytes() == b"weights"
    assert volume.entries() == ["model.pt"]
    volume.link_out()


def test_other_content_than_expected_stays(volume: Volume) -> None:
    before = volume.stamp
    volume.file.write_bytes(b"newer weights")
    for act in (
        lambda: swap.link_out(str(volume.root), "run/model.pt", before, str(volume.copy)),
        lambda: swap.remove(str(volume.root), "run/model.pt", before),
    ):
        with pytest.raises(SourceChanged):
            act()
    assert volume.file.read_bytes() == b"newer weights"


def test_no_link_is_made_to_a_copy_that_is_not_whole(volume: Volume) -> None:
    volume.copy.write_bytes(b"weig")
    with pytest.raises(IntegrityError):
        volume.link_out()
    assert volume.entries() == ["model.pt"]
    assert not volume.file.is_symlink()


def test_what_is_not_there_has_changed(volume: Volume) -> None:
    stamp = volume.stamp
    volume.file.unlink()
    with pytest.raises(SourceChanged):
        swap.remove(str(volume.root), "run/model.pt", stamp)
    (volume.root / "run").rmdir()
    with pytest.raises(SourceChanged):
        swap.remove(str(volume.root), "run/model.pt", stamp)


def test_a_file_with_another_hard_link_is_not_demoted(volume: Volume) -> None:
    os.link(volume.file, volume.root / "other")
    with pytest.raises(Busy):
        volume.link_out()
    assert not volume.file.is_symlink()


def test_an_evicted_file_is_gone(volume: Volume) -> None:
    swap.remove(str(volume.root), "run/model.pt", volume.stamp)
    assert volume.entries() == []


def test_an_evicted_demoted_file_leaves_neither_link_nor_copy(volume: Volume) -> None:
    volume.link_out()
    with held(volume.file, "rb"), pytest.raises(Busy):
        swap.remove_link(str(volume.root), "run/model.pt", str(volume.copy), volume.copy_stamp)
    assert volume.file.read_bytes() == b"weights"
    swap.remove_link(str(volume.root), "run/model.pt", str(volume.copy), volume.copy_stamp)
    assert volume.entries() == []
    assert not volume.copy.exists()


def test_the_jobs_own_link_is_not_taken_for_ours(volume: Volume) -> None:
    volume.file.unlink()
    volume.file.symlink_to("elsewhere")
    with pytest.raises(SourceChanged):
        swap.remove_link(str(volume.root), "run/model.pt", str(volume.copy), volume.copy_stamp)
    assert os.readlink(volume.file) == "elsewhere"


def test_a_promoted_file_replaces_its_link(volume: Volume) -> None:
    volume.link_out()
    volume.staged.write_bytes(b"weights")

    def promote() -> Stamp:
        arguments = str(volume.staged), str(volume.copy), volume.copy_stamp, MINE
        return swap.relink(str(volume.root), "run/model.pt", *arguments)

    with held(volume.file, "r+b"), pytest.raises(Busy):
        promote()
    assert volume.file.is_symlink()
    assert volume.staged.read_bytes() == b"weights"
    with held(volume.file, "map"):  # who reads the copy goes on reading it
        stamp = promote()
    assert not volume.file.is_symlink()
    assert stamp == volume.stamp
    assert swap.attributes_of(str(volume.file)) == MINE
    assert not volume.staged.exists()
    assert volume.copy.exists()
    assert volume.entries() == ["model.pt"]


def test_a_prefetched_file_is_put_back_with_its_attributes(volume: Volume) -> None:
    volume.staged.write_bytes(b"fetched")
    stamp = swap.put_in_place(str(volume.staged), str(volume.root), "run-2/step-5/a b\n\udcff.pt", MINE)
    path = os.path.join(str(volume.root), "run-2/step-5/a b\n\udcff.pt")
    assert swap.attributes_of(path) == MINE
    assert swap.stamp_of(path) == stamp
    assert (os.stat(os.path.dirname(path)).st_mode & 0o7777) == 0o755


def test_what_the_job_wrote_is_never_replaced_by_a_prefetch(volume: Volume) -> None:
    volume.staged.write_bytes(b"fetched")
    with pytest.raises(Conflict):
        swap.put_in_place(str(volume.staged), str(volume.root), "run/model.pt", MINE)
    with pytest.raises(Conflict):
        swap.link_in(str(volume.root), "run/model.pt", str(volume.copy))
    assert volume.file.read_bytes() == b"weights"
    assert volume.staged.exists()
    assert volume.entries() == ["model.pt"]


def test_only_a_dead_link_of_ours_is_filled(volume: Volume) -> None:
    volume.staged.write_bytes(b"fetched")
    volume.link_out()
    target = str(volume.copy)
    with pytest.raises(Conflict):  # it leads somewhere
        swap.put_in_place(str(volume.staged), str(volume.root), "run/model.pt", MINE, replacing=target)
    volume.copy.unlink()
    with pytest.raises(Conflict):  # another's
        swap.put_in_place(str(volume.staged), str(volume.root), "run/model.pt", MINE, replacing=target + "0")
    swap.put_in_place(str(volume.staged), str(volume.root), "run/model.pt", MINE, replacing=target)
    assert volume.file.read_bytes() == b"fetched"
    assert volume.entries() == ["model.pt"]


def test_a_copy_on_nvme_is_linked_in_once(volume: Volume) -> None:
    swap.link_in(str(volume.root), "new/model.pt", str(volume.copy))
    swap.link_in(str(volume.root), "new/model.pt", str(volume.copy))
    assert (volume.root / "new/model.pt").read_bytes() == b"weights"
    assert os.listdir(volume.root / "new") == ["model.pt"]


def test_a_planted_directory_link_is_not_followed(volume: Volume, place: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    (outside / "model.pt").write_bytes(b"another's")
    (volume.root / "trap").symlink_to(outside)
    stamp = swap.stamp_of(str(outside / "model.pt"))
    assert stamp is not None
    volume.staged.write_bytes(b"fetched")
    for act in (
        lambda: swap.remove(str(volume.root), "trap/model.pt", stamp),
        lambda: swap.link_out(str(volume.root), "trap/model.pt", stamp, str(volume.copy)),
        lambda: swap.put_in_place(str(volume.staged), str(volume.root), "trap/new/x", MINE),
        lambda: swap.link_in(str(volume.root), "trap/x", str(volume.copy)),
    ):
        with pytest.raises(Conflict):
            act()
    assert os.listdir(outside) == ["model.pt"]


def test_set_user_id_is_not_restored(volume: Volume) -> None:
    volume.staged.write_bytes(b"fetched")
    swap.put_in_place(str(volume.staged), str(volume.root), "tool", Attributes(0o4755, os.getuid(), os.getgid(), 1))
    assert swap.attributes_of(str(volume.root / "tool")).mode == 0o755


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_owners_are_restored_and_new_directories_belong_to_the_one_above(volume: Volume) -> None:
    os.chown(volume.root / "run", 1234, 4321)
    volume.staged.write_bytes(b"fetched")
    swap.put_in_place(str(volume.staged), str(volume.root), "run/step-1/f", Attributes(0o600, 1111, 2222, 5))
    found, above = os.stat(volume.root / "run/step-1/f"), os.stat(volume.root / "run/step-1")
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1111, 2222, 0o600)
    assert (above.st_uid, above.st_gid) == (1234, 4321)
    volume.staged.write_bytes(b"fetched")
    swap.put_in_place(str(volume.staged), str(volume.root), "new/step-1/f", Attributes(0o600, 1111, 2222, 5))
    run = os.stat(volume.root / "new")
    assert (run.st_uid, run.st_gid) == (1111, 2222), "a run that is brought here belongs to who wrote it"
    volume.file = volume.root / "run/step-1/f"
    swap.link_out(str(volume.root), "run/step-1/f", volume.stamp, str(volume.copy))
    link = os.lstat(volume.file)
    assert (link.st_uid, link.st_gid) == (1111, 2222)  # fs.protected_symlinks lets its owner follow it


@pytest.mark.parametrize(("how", "expected"), [("rb", False), ("r+b", True), ("ab", True), ("map", False)])
def test_a_writer_is_told_from_a_reader(volume: Volume, how: str, expected: bool) -> None:
    with held(volume.file, how):
        assert swap.has_writer(str(volume.file)) is expected
    assert swap.has_writer(str(volume.file)) is False


def test_a_writer_of_what_is_no_file_cannot_be_told(volume: Volume) -> None:
    os.mkfifo(volume.root / "fifo")
    (volume.root / "link").symlink_to(volume.file)
    for name in ("fifo", "link", "run", "absent"):
        assert swap.has_writer(str(volume.root / name)) is None


def test_without_leases_the_descriptors_of_all_processes_are_looked_through(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, use: lease.Use) -> None:
        raise OSError(22, "no leases here")

    monkeypatch.setattr(lease, "_take", refuse)
    for how in ("rb", "r+b", "map"):
        with held(volume.file, how):
            assert swap.has_writer(str(volume.file)) is (True if how == "r+b" else None)
            with pytest.raises(Busy):
                volume.link_out()
    assert volume.link_out() is not swap.Certainty.LEASE


def test_a_writable_mapping_counts_as_a_writer(volume: Volume) -> None:
    fd = os.open(volume.file, os.O_RDWR)
    with mmap.mmap(fd, 0):
        os.close(fd)
        assert swap.has_writer(str(volume.file)) is True
    assert swap.has_writer(str(volume.file)) is False


def test_a_copy_knows_the_path_it_belongs_to(volume: Volume) -> None:
    swap.write_origin(str(volume.copy), "run/a\udcff.pt")
    assert swap.read_origin(str(volume.copy)) == "run/a\udcff.pt"
    assert swap.read_origin(str(volume.file)) is None
