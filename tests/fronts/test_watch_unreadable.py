"""What the front says of a directory that it cannot list."""

import asyncio
import os
from pathlib import Path

import pytest

from ckptd.domain.changes import Change, Scanned
from ckptd.fronts.watch.front import WatchFront


async def test_a_scan_that_missed_a_directory_is_incomplete_until_all_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shut").mkdir()
    (tmp_path / "shut/f").write_bytes(b"x")
    shut, really_open = [True], os.open

    def open_(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if shut and path == "shut":
            raise PermissionError(13, "Permission denied", path)
        return really_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", open_)
    changes: list[Change] = []
    front = WatchFront(str(tmp_path), None, changes.append, rescan_s=0.05)
    await front.start()
    try:
        assert Scanned("", (), complete=False) in changes
        shut.clear()
        async with asyncio.timeout(20):
            while Scanned("", ("shut/f",), complete=True) not in changes:
                await asyncio.sleep(0.01)
    finally:
        await front.stop()
