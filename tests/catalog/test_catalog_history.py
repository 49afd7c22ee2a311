"""What was measured is kept, bounded, and forgotten with its run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ckptd.catalog import Catalog, history
from ckptd.domain.history import Probe, Resume, Save
from ckptd.domain.model import Place

RUN = "run \udcff"
"""A name that is no text."""


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[history.History]:
    catalog = await Catalog.open(tmp_path / "catalog.db")
    yield catalog.history
    await catalog.close()


def saved(step: int, run: str = RUN, ended_at: float | None = None) -> Save:
    ended = float(step) if ended_at is None else ended_at
    return Save("ckpt", run, step, ended - 0.5, ended, 100, None, 25)


async def test_a_save_comes_back_as_it_was_and_a_later_one_of_the_step_takes_its_place(kept: history.History) -> None:
    unseen = Save("ckpt", RUN, 2, None, 2.0, 7)
    await kept.saved(saved(1))
    await kept.saved(unseen)
    assert await kept.saves("ckpt", RUN) == [saved(1), unseen]
    again = Save("ckpt", RUN, 1, 9.0, 10.0, 8, 11.0)
    await kept.saved(again)
    assert await kept.saves("ckpt", RUN) == [unseen, again]
    assert await kept.save("ckpt", RUN, 1) == again
    assert await kept.save("ckpt", RUN, 3) is None
    assert await kept.saves("other", RUN) == []
    assert await kept.durable_until("ckpt") == 11.0
    assert await kept.durable_until("other") == 0.0


async def test_the_last_two_of_the_run_that_saved_last(kept: history.History) -> None:
    assert await kept.last("ckpt") == []
    await kept.saved(saved(1))
    assert await kept.last("ckpt") == [saved(1)]
    for step in (2, 3):
        await kept.saved(saved(step))
    await kept.saved(saved(9, "older", ended_at=0.5))
    assert await kept.last("ckpt") == [saved(2), saved(3)]


async def test_the_newest_are_kept(kept: history.History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEEP_OF_RUN", 3)
    monkeypatch.setattr(history, "KEEP", 5)
    monkeypatch.setattr(history, "KEEP_PROBES", 2)
    for step in range(1, 6):
        await kept.saved(saved(step))
    assert [save.step for save in await kept.saves("ckpt", RUN)] == [3, 4, 5]
    for step in range(6, 9):
        await kept.saved(saved(step, "other"))
    assert [save.step for save in await kept.saves("ckpt", RUN)] == [4, 5], "over all runs"
    for at in range(4):
        await kept.probed(Probe("ckpt", float(at), 64, 1.0, 0.5))
        await kept.probed(Probe("other", float(-at), 64, 1.0, 0.5))
    assert await kept.probe("ckpt") == Probe("ckpt", 3.0, 64, 1.0, 0.5)
    assert await kept.probe("other") == Probe("other", 0.0, 64, 1.0, 0.5)
    assert len(await kept._db.read("SELECT * FROM probes")) == 4
    for number in range(12):
        await kept.resumed(Resume("ckpt", RUN, number, 1.0, 2.0, 5, 4, Place.REMOTE, "prefetch"))
    assert [one.step for one in await kept.resumes("ckpt", RUN)] == [9, 10, 11]
    assert len(await kept._db.read("SELECT * FROM resumes")) == 5


async def test_a_resume_that_goes_on_is_one(kept: history.History) -> None:
    first = Resume("ckpt", RUN, 1, 1.0, 2.0, 5, 5, Place.REMOTE, "open")
    number = await kept.resumed(first)
    more = Resume("ckpt", RUN, 1, 1.0, 3.0, 9, 9, Place.REMOTE, "open")
    assert await kept.resumed(more, id_=number) == number
    assert await kept.resumes("ckpt", RUN) == [more]


async def test_a_run_or_a_remote_that_is_gone_is_forgotten(kept: history.History) -> None:
    for run in (RUN, "other"):
        await kept.saved(saved(1, run))
        await kept.resumed(Resume("ckpt", run, 1, 1.0, 2.0, 5, 0, Place.RAM, "prefetch"))
    await kept.probed(Probe("ckpt", 1.0, 64, 1.0, 0.5))
    await kept.forget_run("ckpt", RUN)
    await kept.another_remote("ckpt")
    assert await kept.saves("ckpt", RUN) == await kept.resumes("ckpt", RUN) == []
    assert len(await kept.saves("ckpt", "other")) == len(await kept.resumes("ckpt", "other")) == 1
    assert await kept.probe("ckpt") is None
