"""The job's file changes while it goes up: nothing of it becomes visible, nothing crashes, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from transfer_world import PART, content, stamp_of, until

from ckptd.domain.errors import SourceChanged

PARTS = 8


def truncate(path: Path) -> None:
    os.truncate(path, PART + 17)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(5 * PART)
        file.write(b"newer")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(content(PARTS * PART, seed=9))
    fresh.rename(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [truncate, overwrite, append, replace, remove])
async def test_an_upload_in_parts_is_given_up(make, remote, store, source, journal, change):
    path = source(PARTS * PART)
    async with make(bandwidth=4 * PART) as transfers:
        movers = set(transfers.mover_pids)
        upload = asyncio.create_task(
            transfers.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=lambda n: None)
        )
        await until(lambda: journal.parts_done >= 1)
        change(path)
        with pytest.raises(SourceChanged, match="source"):
            await upload
        assert set(transfers.mover_pids) == movers
        assert transfers.health("ckpt").ok
        assert transfers.report().queued_bytes == 0
    assert not (store / "k").exists()
    assert journal.known == {}
    assert os.listdir(store / ".ckptd" / "tmp") == []


async def test_a_file_of_one_part_that_is_not_what_the_stamp_says_is_not_sent(transfers, remote, store, source):
    path = source(1000)
    stamp = stamp_of(path)
    truncate_to = 10
    os.truncate(path, truncate_to)
    with pytest.raises(SourceChanged):
        await transfers.upload(remote, "k", str(path), stamp, journal_key="u", on_bytes=lambda n: None)
    assert not (store / "k").exists()


async def test_a_truncation_under_the_checksum_is_noticed(transfers, source):
    path = source(1000)
    stamp = stamp_of(path)
    os.truncate(path, 999)
    with pytest.raises(SourceChanged):
        await transfers.checksum(str(path), stamp)
