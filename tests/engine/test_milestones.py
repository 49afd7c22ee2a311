"""What is recorded of a save, from rows whose times are known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import sentinel

import pytest

from ckptd.catalog import Catalog, FileRow
from ckptd.catalog.nodes import Withdrawal
from ckptd.domain.model import Attributes, CheckpointState
from ckptd.engine.context import Context
from ckptd.engine.meters import Meters
from ckptd.engine.milestones import Milestones, saved
from ckptd.engine.unit import Unit

ATTRIBUTES = Attributes(0o644, 0, 0, 0)


def row(number: int, began_at: float | None, changed_at: float, link: str | None = None) -> FileRow:
    return FileRow(
        number, "v", f"run/checkpoint-1/{number}", "run", 1, link, 1, True, 10, ATTRIBUTES, changed_at, None, None,
        began_at=began_at,
    )  # fmt: skip


def unit(*rows: FileRow, state: CheckpointState = CheckpointState.COMPLETE, **more: Any) -> Unit:
    return Unit("v", "run", 1, rows, state=state, mine=rows, **more)


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    catalog = await Catalog.open(tmp_path / "catalog.db")
    volumes: dict[str, Any] = {"v": sentinel.volume}
    yield Context("n", "test", catalog, sentinel.none, sentinel.none, volumes, {}, lambda: 0.0, meters=Meters(["v"]))
    await catalog.close()


def measured(context: Context, name: str, **labels: str) -> float:
    return context.meters.registry.get_sample_value(f"ckptd_{name}", {"volume": "v", **labels}) or 0.0


def test_a_save_is_from_its_first_file_to_its_last() -> None:
    found = saved(unit(row(1, 5.0, 7.0), row(2, 4.0, 6.0)), (row(1, 5.0, 7.0), row(2, 4.0, 6.0)))
    assert found is not None
    assert (found.began_at, found.ended_at, found.bytes, found.durable_at) == (4.0, 7.0, 20, None)


def test_links_and_what_another_node_wrote_do_not_count() -> None:
    rows = (row(1, 5.0, 7.0), row(2, 1.0, 9.0, link="elsewhere"), row(3, 1.0, 9.0))
    found = saved(unit(*rows, aside=frozenset({3})), rows)
    assert found is not None
    assert (found.began_at, found.ended_at, found.bytes) == (5.0, 7.0, 10)


def test_what_was_fetched_is_no_save_although_its_manifest_is_gone() -> None:
    fetched = (row(1, None, 7.0),)
    assert saved(unit(*fetched, went={"other": Withdrawal(7.0, ours=False)}), fetched) is None
    assert saved(unit(*fetched, went={"n": Withdrawal(5.0, ours=True)}), fetched) is not None, "written again since"
    assert saved(unit(), ()) is None


def test_what_was_not_or_half_seen_has_no_beginning() -> None:
    unseen = (row(1, None, 7.0),)
    found = saved(unit(*unseen), unseen)
    assert found is not None
    assert (found.began_at, found.ended_at) == (None, 7.0)
    half = (row(1, None, 7.0), row(2, 6.0, 8.0))
    found = saved(unit(*half), half)
    assert found is not None
    assert (found.began_at, found.ended_at) == (None, 8.0)


async def test_a_commit_that_comes_while_the_save_is_noted_is_not_lost_and_counts_once(context: Context) -> None:
    for _ in range(20):
        milestones, complete = Milestones(context), unit(row(1, 5.0, 7.0))
        await context.catalog.history.forget_run("v", "run")
        before = measured(context, "save_seconds_count")
        await asyncio.gather(
            milestones.look({complete.key: complete}), milestones.durable(complete, complete.mine, 9.0, 4)
        )
        (save,) = await context.catalog.history.saves("v", "run")
        assert (save.durable_at, save.copied) == (9.0, 4)
        assert measured(context, "save_seconds_count") == before + 1


async def test_a_manifest_that_is_written_again_does_not_change_what_was_measured(context: Context) -> None:
    milestones, complete = Milestones(context), unit(row(1, 5.0, 7.0))
    await milestones.durable(complete, complete.mine, 9.0, 4)
    await milestones.look({complete.key: complete})
    later = (row(1, 5.0, 7.0), row(2, 100.0, 101.0))
    await milestones.durable(unit(*later), later, 102.0, 0)
    (save,) = await context.catalog.history.saves("v", "run")
    assert (save.ended_at, save.durable_at) == (7.0, 9.0)
    assert measured(context, "save_seconds_count") == 1
    assert measured(context, "last_commit_timestamp_seconds") == 9.0


async def test_states_are_counted_when_they_change(context: Context) -> None:
    milestones = Milestones(context)
    states = (CheckpointState.TORN, CheckpointState.TORN, CheckpointState.WRITING, CheckpointState.TORN)
    for state in states:
        found = unit(row(1, 5.0, 7.0), state=state)
        await milestones.look({found.key: found})
    assert measured(context, "checkpoint_transitions_total", state="torn") == 1, "the first look finds, it does not see"
    assert measured(context, "checkpoint_transitions_total", state="writing") == 1
    await milestones.look({})
    heard_of = unit(state=CheckpointState.COMMITTED)
    await milestones.look({heard_of.key: heard_of})
    assert measured(context, "checkpoint_transitions_total", state="committed") == 0, "it was only heard of"
