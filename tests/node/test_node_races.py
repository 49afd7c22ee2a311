"""A job that writes while something else is done to the same checkpoint."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests_node_daemon import Daemon, save

from ckptd.catalog import Catalog, CopyRow
from ckptd.catalog.files import NewContent
from ckptd.domain.model import Attributes, PartDone, Place, Unfinished
from ckptd.engine.context import Context
from ckptd.engine.staging import clear_staging
from ckptd.engine.volume import Tier


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    """Of an engine that does nothing by itself."""
    (tmp_path / "ram" / "staging").mkdir(parents=True)
    catalog = await Catalog.open(tmp_path / "catalog.db")
    nothing = cast("Any", SimpleNamespace())
    tiers = {Place.RAM: cast("Tier", _Tier(str(tmp_path / "ram")))}
    try:
        yield Context("n", "test", catalog, nothing, nothing, {}, tiers, time.time)
    finally:
        await catalog.close()


class _Tier:
    def __init__(self, path: str) -> None:
        self.path = path

    def staged(self, name: str) -> str:
        return os.path.join(self.path, "staging", name)


async def settled(context: Context, path: str, *, copy: bool = False) -> int:
    there = CopyRow(Place.RAM, 0, f"/ram/{path}", 1, 1) if copy else None
    new = NewContent(path, "r", 1, None, True, 8, Attributes(0o600, 0, 0, 0), 1.0, None, there)
    await context.catalog.files.settle("v", [new])
    row = await context.catalog.files.at("v", path)
    assert row is not None
    return row.id


async def begun(context: Context, file: int, generation: int = 1) -> Path:
    """A download that was cut short."""
    await context.catalog.journal.begin(f"down/{file}/{generation}", Unfinished("", 4, 8, (PartDone(1, 4, "", 7),), ""))
    path = Path(context.tiers[Place.RAM].staged(f"{file}-{generation}"))
    path.write_bytes(b"12345678")
    return path


async def test_only_downloads_that_can_go_on_keep_their_staged_file(context: Context) -> None:
    goes_on = await settled(context, "a")
    rewritten = await settled(context, "b")
    hot = await settled(context, "c", copy=True)
    paths = {file: await begun(context, file) for file in (goes_on, rewritten, hot, 99)}
    await settled(context, "b")
    await context.catalog.journal.begin("restore/7/r/a", Unfinished("", 4, 8, (), ""))
    await clear_staging(context)
    assert {file for file, path in paths.items() if path.exists()} == {goes_on}
    assert await context.catalog.journal.keys() == [f"down/{goes_on}/1"]


async def test_a_cancelled_download_is_not_kept_for_ever(context: Context) -> None:
    path = await begun(context, await settled(context, "a"))
    os.utime(path, (0, 0))
    await clear_staging(context, starting=True)
    assert path.exists()
    await clear_staging(context)
    assert not path.exists()
    assert await context.catalog.journal.keys() == []


async def test_what_is_being_worked_on_is_left_alone(context: Context) -> None:
    path = await begun(context, 99)
    async with context.claimed([99]):
        await clear_staging(context)
        assert path.exists()
    await clear_staging(context)
    assert not path.exists()


async def test_a_claim_is_held_until_its_section_has_ended(context: Context) -> None:
    entered, leave, claimed_after = asyncio.Event(), asyncio.Event(), []

    async def section() -> None:
        entered.set()
        await leave.wait()

    async def work() -> None:
        async with context.claimed([1]):
            await context.to_the_end(section(), "section")

    async with asyncio.TaskGroup() as group:
        context.group = group
        task = asyncio.create_task(work())
        await entered.wait()
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        claimed_after.append(1 in context.files)
        leave.set()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert claimed_after == [True]
    assert task.cancelled()
    assert 1 not in context.files


async def test_dropping_an_old_content_leaves_the_new_one(context: Context) -> None:
    files = context.catalog.files
    file = await settled(context, "a", copy=True)
    await settled(context, "a", copy=True)
    assert not await files.drop_copy(file, Place.RAM, 1)
    await files.delete_content(file, 1, closed=True)
    await files.delete_without_copies([file])
    row = await files.get(file)
    assert row is not None
    assert row.copy(Place.RAM) is not None
    assert await files.drop_copy(file, Place.RAM, 2)
    await files.delete_without_copies([file])
    assert await files.get(file) is None


def test_a_file_written_during_its_eviction_stays_and_is_sent(daemon: Daemon) -> None:
    directory = daemon.volume / "run-1/checkpoint-1"
    save(directory, {f"shard-{number:03}.bin": b"%d" % number * 1000 for number in range(100)})
    daemon.committed("run-1", 1)
    evicting = threading.Thread(target=lambda: daemon.ctl("evict", "run-1@1", check=None))
    evicting.start()
    daemon.until(lambda: not (directory / "shard-000.bin").exists(), "the eviction has begun")
    path = directory / "shard-099.bin"
    path.write_bytes(b"new" * 777)
    evicting.join()
    sent = daemon.remote / "run-1/checkpoint-1/shard-099.bin"
    daemon.until(lambda: sent.read_bytes() == b"new" * 777, "it is sent")
    assert path.read_bytes() == b"new" * 777
    daemon.committed("run-1", 1)
