"""When the kernel drops events or gives no more watches."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyEvent
from watched_directory import Watched, contents

from ckptd.domain.changes import ObjectSettled, Scanned, Trouble
from ckptd.fronts.watch.reader import Reader

_QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[threading.Event]:
    """While it is closed, the reader's thread takes nothing out of the kernel's queue."""
    opened = threading.Event()
    opened.set()
    read = Reader.read_events

    def wait_and_read(self: Reader, *, event_buffer_size: int = 65_536) -> list[InotifyEvent]:
        opened.wait()
        return read(self, event_buffer_size=event_buffer_size)

    monkeypatch.setattr(Reader, "read_events", wait_and_read)
    yield opened
    opened.set()


def flood(root: str) -> None:
    """Twice as many events as the queue holds, since a read that has already begun takes some thousands out of it. (Two
    different names in turn: equal events in a row are joined.)
    """
    for _ in range(_QUEUE):
        for name in ("x", "y"):
            os.utime(f"{root}/{name}")


@pytest.mark.skipif(_QUEUE > 100_000, reason="the kernel's queue is too long to fill in a test")
async def test_lost_events_are_made_up_for_by_a_whole_scan(
    gate: threading.Event, watched: Watched, place: Path
) -> None:
    (place / "objects" / "5").write_text("1")
    for name in ("x", "y", "gone"):
        Path(watched.root, name).write_text("1")
    for name in ("old/deep", "removed"):
        os.makedirs(f"{watched.root}/{name}")
        Path(watched.root, name, "f").write_text("1")
    await watched.quiet()
    watched.changes.clear()
    gate.clear()
    flood(watched.root)
    # None of this will be told:
    os.unlink(f"{watched.root}/gone")
    os.unlink(f"{watched.root}/removed/f")
    os.rmdir(f"{watched.root}/removed")
    os.rename(f"{watched.root}/old", f"{watched.root}/new")
    os.makedirs(f"{watched.root}/old/other")
    Path(watched.root, "old/other/g").write_text("2")
    gate.set()
    await watched.until(lambda: watched.front.overflowed > 0 and any(isinstance(c, Scanned) for c in watched.changes))
    await watched.agrees()
    assert any(isinstance(change, Scanned) and change.complete and not change.root for change in watched.changes)
    assert ObjectSettled(5) in watched.changes
    for path in ("new/deep/h", "old/other/h"):  # all of it is watched again
        Path(watched.root, path).write_text("3")
    await watched.agrees()
    assert watched.front.watches == 5


@contextmanager
def few_watches(monkeypatch: pytest.MonkeyPatch, limit: int, code: int) -> Iterator[list[int]]:
    """After `limit` watches the kernel would say no; set the one number in the list to change the limit."""
    allowed = [limit]
    watch = Reader.watch

    def refuse(self: Reader, path: bytes, *mask: int) -> int:
        if allowed[0] <= 0:
            raise OSError(code, os.strerror(code))
        allowed[0] -= 1
        return watch(self, path, *mask)  # type: ignore[arg-type]

    monkeypatch.setattr(Reader, "watch", refuse)
    yield allowed


async def test_without_watches_left_directories_are_listed_again_and_again(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    root = place / "volume"
    for number in range(5):
        (root / f"run-{number}").mkdir(parents=True)
    with few_watches(monkeypatch, 3, errno.ENOSPC) as allowed:
        watched = Watched(str(root), rescan_s=0.05)
        await watched.front.start()
        try:
            (trouble,) = [change for change in watched.changes if isinstance(change, Trouble)]
            assert "max_user_watches" in trouble.hint
            assert len(watched.front.blind) == 3
            for number in range(5):
                (root / f"run-{number}" / "f").write_text("1")
            await watched.until(lambda: watched.known == contents(str(root)))
            for number in range(5):
                (root / f"run-{number}" / "f").unlink()
            await watched.until(lambda: watched.known == {})
            allowed[0] = 100
            await watched.until(lambda: not watched.front.blind)
            await watched.agrees()
            assert watched.front.watches == 6
            assert sum(isinstance(change, Trouble) for change in watched.changes) == 1
        finally:
            await watched.front.stop()


async def test_a_directory_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    (place / "volume" / "locked").mkdir(parents=True)
    with few_watches(monkeypatch, 1, errno.EACCES):
        watched = Watched(str(place / "volume"), rescan_s=0.05)
        await watched.front.start()
        try:
            (trouble,) = [change for change in watched.changes if isinstance(change, Trouble)]
            assert "locked" in trouble.message
        finally:
            await watched.front.stop()
