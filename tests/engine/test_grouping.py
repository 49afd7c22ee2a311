"""Which uploads go together in one call."""

from __future__ import annotations

from ckptd.catalog import FileRow
from ckptd.domain.model import Attributes
from ckptd.engine.grouping import GROUPS, MOST, SMALL, grouped
from ckptd.policy.actions import Upload


def row(number: int, size: int = 10, volume: str = "ckpt") -> FileRow:
    return FileRow(
        number,
        volume,
        f"run/step-1/{number}",
        "run",
        1,
        None,
        1,
        True,
        size,
        Attributes(0o644, 0, 0, 0),
        0.0,
        None,
        None,
    )


def groups(rows: list[FileRow], alone: frozenset[int] = frozenset()) -> list[list[int]]:
    by_id = {each.id: each for each in rows}
    uploads = [Upload(each.id, 1) for each in rows]
    return [[one.file for one in group] for group in grouped(uploads, by_id.get, lambda file: file not in alone)]


def test_few_files_go_side_by_side() -> None:
    assert groups([row(number) for number in range(2 * GROUPS - 1)]) == [[number] for number in range(2 * GROUPS - 1)]


def test_very_many_small_files_go_in_groups_and_in_their_order() -> None:
    found = groups([row(number) for number in range(10_000)])
    assert [file for group in found for file in group] == list(range(10_000))
    assert max(map(len, found)) == MOST
    assert len(found) == -(-10_000 // MOST)


def test_large_files_and_those_that_failed_go_by_themselves() -> None:
    rows = [row(number, SMALL + 1 if number == 5 else 10) for number in range(1000)]
    found = groups(rows, alone=frozenset({7}))
    assert [5] in found
    assert [7] in found
    assert sorted(file for group in found for file in group) == list(range(1000))


def test_a_group_is_of_one_volume() -> None:
    rows = [row(number, volume="a" if number % 300 < 150 else "b") for number in range(1200)]
    volume = {each.id: each.volume for each in rows}
    assert all(len({volume[file] for file in group}) == 1 for group in groups(rows))
