"""Opening: what is found there, and what is said about it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from ckptd.catalog import Catalog, PinRow
from ckptd.catalog.files import NewContent
from ckptd.catalog.migrations import VERSION
from ckptd.domain.errors import StateUnusable
from ckptd.domain.model import Attributes, Operation, OperationKind, OperationState, PartDone, Place, Unfinished


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


async def filled(path: Path, files: int = 2000) -> None:
    catalog = await Catalog.open(path)
    attributes = Attributes(0o644, 0, 0, 1)
    await catalog.files.settle(
        "v", [NewContent(f"r/step-1/{n}", "r", 1, None, True, 1, attributes, 1.0) for n in range(files)]
    )
    await catalog.close()


async def test_a_new_one_is_empty_and_of_the_present_version(path: Path) -> None:
    catalog = await Catalog.open(path)
    assert catalog.kept is None
    assert await catalog.files.all() == []
    await catalog.close()
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (VERSION,)


@pytest.mark.parametrize("at", ["beginning", "middle", "everything", "short"])
async def test_a_corrupt_one_is_kept_aside_and_a_new_one_made(path: Path, at: str) -> None:
    await filled(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        if at == "short":
            file.truncate(size // 3)
        else:
            file.seek({"beginning": 0, "middle": size // 2, "everything": 0}[at])
            file.write(os.urandom(size if at == "everything" else 8192))
    damaged = path.read_bytes()
    catalog = await Catalog.open(path)
    assert catalog.kept is not None
    assert Path(catalog.kept).read_bytes()[:4096] == damaged[:4096]
    assert await catalog.files.all() == []
    await catalog.close()
    again = await Catalog.open(path)
    assert again.kept is None
    await again.close()


async def test_a_newer_one_is_refused_and_left_alone(path: Path) -> None:
    await filled(path, 3)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateUnusable, match=f"schema version {VERSION + 1}") as raised:
        await Catalog.open(path)
    assert "ckptd" in raised.value.hint
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir() if "corrupt" in found.name] == []


async def test_a_directory_at_its_place_is_told(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StateUnusable, match=r"catalog\.db"):
        await Catalog.open(path)


async def test_writers_that_are_cancelled_at_any_moment_leave_it_usable(path: Path) -> None:
    catalog = await Catalog.open(path)

    async def write(number: int) -> None:
        async with catalog.transaction():
            await catalog.facts.set("one", str(number))
            await catalog.facts.set("two", str(number))

    for number in range(200):
        task = asyncio.create_task(write(number))
        for _ in range(number % 20):
            await asyncio.sleep(0)
        if number % 3 == 0:
            await asyncio.sleep(number % 7 * 1e-4)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await catalog.facts.get("one") == await catalog.facts.get("two")
    await catalog.facts.set("one", "last")
    assert await catalog.facts.get("one") == "last"
    await catalog.close()


async def test_names_that_are_no_text_can_be_told_and_asked_for(path: Path) -> None:
    catalog = await Catalog.open(path)
    run = "l\u00e4uf\n%41\udcff"
    await catalog.events.add(1.0, "error", "file.lost", f"{run} is lost", {"path": run})
    told = (await catalog.events.since(0, 10))[0]
    assert told.fields == {"path": run}
    assert "l\u00e4uf" in told.message
    operation = Operation(
        0,
        OperationKind.VERIFY,
        f"{run}@7",
        "v",
        OperationState.RUNNING,
        0,
        0,
        1.0,
        None,
        None,
        None,
        "",
        None,
        {"dest": run},
    )
    id_ = await catalog.operations.begin(operation)
    found = await catalog.operations.get(id_)
    assert found is not None
    assert (found.target, found.arguments) == (f"{run}@7", {"dest": run})
    await catalog.operations.update(
        Operation(
            id_, OperationKind.VERIFY, f"{run}@7", "v", OperationState.FAILED, 1, 1, 1.0, 2.0, run, "bug", run, run, {}
        )
    )
    await catalog.wishes.pin(PinRow("v", run, 7, Place.RAM, None))
    assert [pin.run for pin in await catalog.wishes.pins()] == [run]
    await catalog.close()


async def test_a_journal_remembers_parts_until_it_is_told_to_forget(path: Path) -> None:
    catalog = await Catalog.open(path)
    unfinished = Unfinished("upload", 8, 20, (PartDone(1, 8, "t1", 2**64 - 1),), "detail")
    await catalog.journal.begin("up/1/1", unfinished)
    await catalog.journal.part_done("up/1/1", PartDone(2, 8, "t2", 0))
    await catalog.journal.part_done("up/1/1", PartDone(2, 8, "t3", 1))
    await catalog.close()
    again = await Catalog.open(path)
    found = await again.journal.load("up/1/1")
    assert found is not None
    assert found.parts == (*unfinished.parts, PartDone(2, 8, "t3", 1))
    await again.journal.forget("up/1/1")
    assert await again.journal.load("up/1/1") is None
    await again.journal.begin("up/1/1", Unfinished("new", 8, 20, (), ""))
    assert (await again.journal.load("up/1/1")).parts == ()  # type: ignore[union-attr]
    await again.close()


async def test_a_prefetch_never_shortens_a_pin_without_end(path: Path) -> None:
    catalog = await Catalog.open(path)
    for until, expected in ((5.0, 5.0), (3.0, 5.0), (None, None), (9.0, None)):
        await catalog.wishes.pin(PinRow("v", "r", 1, Place.RAM, until))
        assert [pin.until for pin in await catalog.wishes.pins()] == [expected]
    await catalog.close()
