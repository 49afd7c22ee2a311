"""Which jobs wrote which runs: the last first, and not more than a bounded number for each user."""

from __future__ import annotations

from pathlib import Path

from ckptd.catalog import Catalog
from ckptd.catalog.jobs import KEPT
from ckptd.domain.launch import Job, JobRun


async def test_the_last_written_comes_first_and_each_users_are_his(tmp_path: Path) -> None:
    catalog = await Catalog.open(tmp_path / "catalog.db")
    train, other = Job(7, 1000, "train", 3), Job(8, 1001)
    for found in (
        JobRun("ckpt", "a", train, 1.0),
        JobRun("ckpt", "b\udcff", train, 2.0),
        JobRun("ckpt", "a", other, 3.0),
    ):
        await catalog.jobs.wrote(found)
    assert [one.run for one in await catalog.jobs.of_user(1000)] == ["b\udcff", "a"]
    await catalog.jobs.wrote(JobRun("ckpt", "a", train, 4.0))
    assert await catalog.jobs.of_user(1000) == [JobRun("ckpt", "a", train, 4.0), JobRun("ckpt", "b\udcff", train, 2.0)]
    assert await catalog.jobs.of_user(1001) == [JobRun("ckpt", "a", other, 3.0)]
    assert await catalog.jobs.of_run("ckpt", "a") == train
    assert await catalog.jobs.of_run("ckpt", "c") is None
    await catalog.close()


async def test_a_name_that_was_recorded_as_it_came_is_printable(tmp_path: Path) -> None:
    """A manifest with it would be refused by its readers."""
    catalog = await Catalog.open(tmp_path / "catalog.db")
    await catalog.jobs.wrote(JobRun("ckpt", "a", Job(7, 1000, "night\x1b\n"), 1.0))
    assert await catalog.jobs.of_run("ckpt", "a") == Job(7, 1000, "night??")
    assert [one.job for one in await catalog.jobs.of_user(1000)] == [Job(7, 1000, "night??")]
    await catalog.close()


async def test_a_flood_of_one_users_jobs_pushes_out_his_own(tmp_path: Path) -> None:
    catalog = await Catalog.open(tmp_path / "catalog.db")
    await catalog.jobs.wrote(JobRun("ckpt", "kept", Job(1, 1001), 0.0))
    async with catalog.transaction():
        for number in range(KEPT + 10):
            await catalog.jobs.wrote(JobRun("ckpt", f"run-{number}", Job(number + 2, 1000), float(number)))
    found = await catalog.jobs.of_user(1000)
    assert (len(found), found[0].run, found[-1].run) == (KEPT, f"run-{KEPT + 9}", "run-10")
    assert [one.run for one in await catalog.jobs.of_user(1001)] == ["kept"]
    await catalog.close()
