"""What is demanded of a run's next checkpoint, when the job changes what it writes."""

from __future__ import annotations

from collections.abc import Iterable

from ckptd.catalog import CopyRow, FileRow
from ckptd.domain.model import Attributes, Checksums, Place
from ckptd.domain.model import CheckpointState as State
from ckptd.engine.known import Committed
from ckptd.engine.unit import Unit
from ckptd.engine.units import assemble
from ckptd.layouts import locate
from ckptd.manifest import Manifest, ManifestEntry
from ckptd.policy.policy import Policy

NOW = 10_000.0
POLICY = {("v", "run"): Policy(settle_s=2.0)}


def row(path: str, at: float) -> FileRow:
    where = locate(path)
    return FileRow(
        hash(path), "v", path, where.run, where.step, None, 1, True, 10, Attributes(0o644, 0, 0, int(at * 1e9)), at, None,
        Checksums(10, 1 << 20, (1,), 1), {Place.RAM: CopyRow(Place.RAM, 1, f"/{path}")},
    )  # fmt: skip


def saved(step: int, *names: str, late: Iterable[str] = (), light_at: float | None = None) -> list[FileRow]:
    at = 100.0 * step
    rows = [
        row(f"run/step-{step}/{name}", light_at if light_at is not None and name.endswith(("json", "jsonl")) else at)
        for name in names
    ]
    return rows + [row(f"run/step-{step}/{name}", at + 60) for name in late]


def states(*saves: list[FileRow], known: Iterable[tuple[tuple[str, str, int], Committed]] = ()) -> list[State]:
    rows = [one for save in saves for one in save]
    return [unit.state for unit in assemble(rows, known, POLICY, NOW) if unit.step is not None]


def committed(rows: list[FileRow], at: float) -> tuple[tuple[str, str, int], Committed]:
    entries = tuple(ManifestEntry(one.path, one.attributes, one.checksums, None, "") for one in rows)
    step = rows[0].step or 0
    manifest = Manifest("run", step, "here", 1, "generic", "test", f"run/step-{step}", at, at, entries)
    return ("v", "run", step), Committed({"here": manifest}, {"here": "1"})


FULL, SMALL = ("model.bin", "opt.bin"), ("model.bin",)


def test_the_third_smaller_save_in_a_row_makes_all_three_whole() -> None:
    saves = [saved(1, *FULL), saved(2, *SMALL), saved(3, *SMALL)]
    assert states(*saves) == [State.COMPLETE, State.TORN, State.TORN]
    assert states(*saves, saved(4, *SMALL)) == [State.COMPLETE] * 4


def test_a_whole_save_after_smaller_ones_leaves_them_torn() -> None:
    saves = [saved(1, *FULL), saved(2, *SMALL), saved(3, *SMALL), saved(4, *FULL)]
    assert states(*saves) == [State.COMPLETE, State.TORN, State.TORN, State.COMPLETE]


def test_others_than_those_alike_stay_torn() -> None:
    three = ("model.bin", "opt.bin", "ema.bin")
    saves = [saved(1, *three), saved(2, "ema.bin"), *(saved(step, *SMALL) for step in (3, 4, 5))]
    assert states(*saves) == [State.COMPLETE, State.TORN, *([State.COMPLETE] * 3)]


def test_a_look_that_knows_the_one_before_says_so_too() -> None:
    saves = [saved(1, *FULL), saved(2, *SMALL), saved(3, *SMALL)]
    rows = [one for save in saves for one in save]
    before: dict[tuple[str, str, int | None], Unit] = {unit.key: unit for unit in assemble(rows, (), POLICY, NOW)}
    after = assemble(rows + saved(4, *SMALL), (), POLICY, NOW, before)
    assert [unit.state for unit in after] == [State.COMPLETE] * 4
    assert before["v", "run", 2].state is State.TORN, "what others may still read does not change"


def test_what_came_after_the_commit_is_not_demanded_of_the_next() -> None:
    rows = saved(1, *FULL, late=["preds.npz"])
    known = [committed(rows, at=110.0)]
    assert states(rows, saved(2, *FULL), known=known) == [State.COMMITTED, State.COMPLETE]
    assert states(rows, saved(2, *SMALL), known=known) == [State.COMMITTED, State.TORN]
    known = [committed(rows, at=170.0)]
    assert states(rows, saved(2, *FULL), known=known) == [State.COMMITTED, State.TORN], "it was there at the commit"


def test_small_files_that_come_late_are_not_demanded_of_the_next() -> None:
    rows = saved(1, *FULL, late=["eval.json", "metrics.jsonl"])
    assert states(rows, saved(2, *FULL)) == [State.COMPLETE] * 2
    in_time = saved(1, *FULL, "eval.json", "metrics.jsonl", light_at=105.0)
    assert states(in_time, saved(2, *FULL)) == [State.COMPLETE, State.TORN]


def test_a_small_file_in_the_place_of_lines_of_json() -> None:
    """`.jsonl` is as light as `.json`: one may come in the other's place, and it takes no weights' place."""
    assert states(saved(1, *FULL, "log.jsonl"), saved(2, *FULL, "log.json")) == [State.COMPLETE] * 2
    assert states(saved(1, *FULL), saved(2, *SMALL, "log.jsonl")) == [State.COMPLETE, State.TORN]
