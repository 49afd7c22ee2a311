"""What the watch front reports, with real processes and the real kernel."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from watched_directory import Watched, contents

from ckptd.domain.changes import Deleted, Lost, Moved, ObjectSettled, Opened, Scanned, Settled, Touched
from ckptd.domain.errors import StateUnusable
from ckptd.fronts.watch import WatchFront
from ckptd.tiers import swap


async def run(script: str, *arguments: str) -> None:
    """In a process of its own, as a job is."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", script, *arguments)
    assert await child.wait() == 0


async def test_a_file_counts_when_it_is_closed(watched: Watched) -> None:
    with open(f"{watched.root}/model.pt", "wb") as file:
        await watched.until(lambda: watched.changes == [Opened("model.pt")])
        file.write(b"weights" * 1000)
        file.flush()
        await watched.quiet()
        assert watched.changes == [Opened("model.pt")]
    await watched.until(lambda: watched.changes[-1] == Settled("model.pt"))


async def test_a_save_by_another_process_is_reported_in_order(watched: Watched) -> None:
    script = "import os, sys; os.chdir(sys.argv[1]); open('f.tmp', 'w').write('x' * 9999); os.rename('f.tmp', 'f')"
    await run(script, watched.root)
    await watched.agrees()
    assert watched.changes[-3:] == [Settled("f.tmp"), Moved("f.tmp", "f", directory=False), Settled("f")]


async def test_overwriting_appending_touching_and_deleting_are_told_apart(watched: Watched) -> None:
    path = Path(watched.root, "f")
    for act, expected in (
        (lambda: path.write_text("one"), Settled("f")),
        (lambda: path.write_text("other"), Settled("f")),
        (lambda: path.open("a").close(), Settled("f")),
        (lambda: path.chmod(0o600), Touched("f")),
        (lambda: os.utime(path, (1, 1)), Touched("f")),
        (path.unlink, Deleted("f", directory=False)),
    ):
        watched.changes.clear()
        act()
        await watched.agrees()
        assert watched.changes[-1] == expected


async def test_a_renamed_directory_is_one_move_and_stays_watched(watched: Watched) -> None:
    os.makedirs(f"{watched.root}/tmp-checkpoint-5/rank")
    Path(watched.root, "tmp-checkpoint-5/rank/f").write_text("1")
    await watched.quiet()
    watched.changes.clear()
    os.rename(f"{watched.root}/tmp-checkpoint-5", f"{watched.root}/checkpoint-5")
    await watched.agrees()
    assert watched.changes[0] == Moved("tmp-checkpoint-5", "checkpoint-5", directory=True)
    Path(watched.root, "checkpoint-5/rank/g").write_text("2")
    await watched.agrees()
    assert Settled("checkpoint-5/rank/g") in watched.changes


async def test_what_leaves_the_volume_is_deleted_and_what_enters_is_found(watched: Watched, place: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    os.makedirs(f"{watched.root}/run/deep")
    Path(watched.root, "run/deep/f").write_text("1")
    Path(watched.root, "g").write_text("2")
    await watched.quiet()
    watches = watched.front.watches
    watched.changes.clear()
    os.rename(f"{watched.root}/run", outside / "run")
    os.rename(f"{watched.root}/g", outside / "g")
    await watched.agrees()
    assert watched.known == {}
    assert watched.changes == [Deleted("run", directory=True), Deleted("g", directory=False)]
    assert watched.front.watches == watches - 2
    watched.changes.clear()
    Path(outside, "run/deep/f").write_text("not ours to see")
    await watched.quiet()
    assert watched.changes == []
    os.rename(outside / "run", f"{watched.root}/back")
    os.rename(outside / "g", f"{watched.root}/g")
    await watched.agrees()
    assert Scanned("back", ("back/deep/f",), complete=False) in watched.changes
    assert Settled("g") in watched.changes
    Path(watched.root, "back/deep/h").write_text("3")
    await watched.agrees()


async def test_a_directory_that_is_replaced_is_the_new_one(watched: Watched) -> None:
    for name, file in (("old", "f"), ("new", "g")):
        os.mkdir(f"{watched.root}/{name}")
        Path(watched.root, name, file).write_text(name)
    await watched.quiet()
    swap_script = (
        "import shutil, os, sys; os.chdir(sys.argv[1]); shutil.rmtree('old'); os.rename('new', 'old');"
        "os.mkdir('new'); open('new/h', 'w').close(); open('old/i', 'w').close()"
    )
    await run(swap_script, watched.root)
    await watched.agrees()
    assert set(watched.known) == {"old/g", "old/i", "new/h"}


async def test_every_file_of_a_tree_that_is_made_in_a_hurry_is_reported(watched: Watched) -> None:
    """The race inotify(7) warns of: files are there before their new directory can be watched."""
    script = """
import os, sys
os.chdir(sys.argv[1])
for number in range(300):
    path = f"{number % 7}/run-{number}/a/b/c"
    os.makedirs(path)
    for part in range(3):
        with open(f"{path}/{part}", "w") as file: file.write("x" * part)
    with open(f"{os.path.dirname(path)}/late", "w") as file: file.write("y")
"""
    await run(script, watched.root)
    await watched.agrees()
    assert len(watched.known) == 1200


async def test_thousands_of_short_lived_files_leave_nothing_behind(watched: Watched) -> None:
    script = """
import os, sys
os.chdir(sys.argv[1])
for number in range(3000):
    open(f"{number}.lock", "w").close(); os.unlink(f"{number}.lock")
open("last", "w").close()
"""
    await run(script, watched.root)
    await watched.agrees()
    assert set(watched.known) == {"last"}


async def test_links_are_reported_when_they_are_made_and_never_followed(watched: Watched, place: Path) -> None:
    (place / "outside").mkdir()
    (place / "outside" / "secret").write_text("s")
    Path(watched.root, "f").write_text("1")
    await watched.quiet()
    watched.changes.clear()
    os.symlink(place / "outside", f"{watched.root}/directory")
    os.symlink("nowhere", f"{watched.root}/dangling")
    os.link(f"{watched.root}/f", f"{watched.root}/hard")
    await watched.agrees()
    assert watched.changes == [Settled("directory"), Settled("dangling"), Settled("hard")]


async def test_a_file_written_without_a_name_is_reported_when_it_gets_one(watched: Watched) -> None:
    fd = os.open(watched.root, os.O_TMPFILE | os.O_WRONLY)
    os.write(fd, b"weights")
    os.link(f"/proc/self/fd/{fd}", f"{watched.root}/model.pt", src_dir_fd=fd, follow_symlinks=True)  # linkat(2)
    os.close(fd)
    await watched.agrees()
    assert Settled("model.pt") in watched.changes


async def test_fifos_and_sockets_are_passed_over(watched: Watched) -> None:
    os.mkfifo(f"{watched.root}/fifo")
    fd = os.open(f"{watched.root}/fifo", os.O_RDWR)
    os.write(fd, b"x")
    os.close(fd)
    os.chmod(f"{watched.root}/fifo", 0o600)
    await watched.agrees()
    assert watched.changes == []


@pytest.mark.parametrize("name", [b"a b", b"a\nb", b"\xff\xfe.pt", "ü✓.pt".encode(), b"x" * 255])
async def test_any_name_that_the_kernel_takes_is_reported(watched: Watched, name: bytes) -> None:
    directory = os.path.join(os.fsencode(watched.root), name)
    os.mkdir(directory)
    with open(os.path.join(directory, name), "wb") as file:
        file.write(b"1")
    os.rename(os.path.join(directory, name), os.path.join(directory, name[::-1]))
    await watched.agrees()
    assert set(watched.known) == {os.fsdecode(name + b"/" + name[::-1])}


async def test_a_very_deep_tree_is_watched_to_its_bottom(watched: Watched) -> None:
    deep = "/".join(["d"] * 250)
    os.makedirs(f"{watched.root}/{deep}")
    Path(watched.root, deep, "f").write_text("1")
    await watched.agrees()
    Path(watched.root, deep, "g").write_text("2")
    await watched.agrees()
    assert set(watched.known) == {f"{deep}/f", f"{deep}/g"}


async def test_a_demoted_file_that_is_written_through_its_link_is_reported_by_its_number(
    watched: Watched, place: Path
) -> None:
    (place / "objects" / "17").write_text("old")
    (place / "objects" / "staged.tmp").write_text("no number")
    os.symlink(place / "objects" / "17", f"{watched.root}/f")
    await watched.quiet()
    watched.changes.clear()
    with open(f"{watched.root}/f", "a") as file:
        file.write("new")
    await watched.quiet()
    assert set(watched.changes) == {ObjectSettled(17)}


async def test_the_daemons_own_swaps_look_like_their_outcome(watched: Watched, place: Path) -> None:
    (place / "objects" / "17").write_text("weights")
    os.mkdir(f"{watched.root}/run")
    Path(watched.root, "run/f").write_text("weights")
    await watched.quiet()
    watched.changes.clear()
    stamp = swap.stamp_of(f"{watched.root}/run/f")
    assert stamp is not None
    swap.link_out(watched.root, "run/f", stamp, str(place / "objects" / "17"))
    await watched.agrees()
    assert set(watched.changes) == {Settled("run/f")}
    watched.changes.clear()
    copy = swap.stamp_of(str(place / "objects" / "17"))
    assert copy is not None
    swap.remove_link(watched.root, "run/f", str(place / "objects" / "17"), copy)
    await watched.agrees()
    assert watched.changes == [Deleted("run/f", directory=False)]


async def test_what_is_there_at_the_start_is_listed_once(place: Path) -> None:
    root = place / "volume"
    for number in range(50):
        (root / f"run/checkpoint-{number}").mkdir(parents=True)
        for file in range(10):
            (root / f"run/checkpoint-{number}/{file}").write_text("1")
    (place / "objects").mkdir()
    (place / "objects" / "3").write_text("1")
    watched = Watched(str(root), str(place / "objects"))
    await watched.front.start()
    try:
        first, *others = watched.changes
        assert isinstance(first, Scanned)
        assert (first.root, first.complete, len(first.paths)) == ("", True, 500)
        assert others == [ObjectSettled(3)]
        assert watched.known == contents(str(root))
        assert watched.front.watches == 52
    finally:
        await watched.front.stop()


async def test_what_happens_during_the_start_is_not_missed(place: Path) -> None:
    root = place / "volume"
    root.mkdir()
    script = """
import os, sys
os.chdir(sys.argv[1])
for number in range(400):
    os.makedirs(f"{number}/x")
    with open(f"{number}/x/f", "w") as file: file.write("1")
    os.rename(f"{number}", f"done-{number}")
"""
    child = subprocess.Popen([sys.executable, "-c", script, str(root)])
    watched = Watched(str(root))
    try:
        while not os.listdir(root):
            await asyncio.sleep(0.001)
        await watched.front.start()
        assert await asyncio.to_thread(child.wait) == 0
        await watched.agrees()
        assert len(watched.known) == 400
    finally:
        child.kill()
        child.wait()
        await watched.front.stop()


@pytest.mark.parametrize("how", ["deleted", "moved"])
async def test_a_volume_that_goes_away_is_lost_not_empty(watched: Watched, place: Path, how: str) -> None:
    Path(watched.root, "f").write_text("1")
    await watched.quiet()
    watched.changes.clear()
    if how == "moved":
        os.rename(watched.root, place / "elsewhere")
    else:
        shutil.rmtree(watched.root)
    await watched.until(lambda: bool(watched.changes) and isinstance(watched.changes[-1], Lost))
    assert how in watched.changes[-1].reason  # type: ignore[union-attr]


async def test_a_volume_that_is_not_there_is_an_error_at_the_start(place: Path) -> None:
    front = WatchFront(str(place / "absent"), None, lambda change: None)
    with pytest.raises(StateUnusable, match="absent"):
        await front.start()


async def test_stopping_ends_the_thread_and_frees_the_watches(place: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(3):
        front = WatchFront(str(place), None, lambda change: None)
        await front.start()
        await front.stop()
        await front.stop()
    assert descriptors() == before
