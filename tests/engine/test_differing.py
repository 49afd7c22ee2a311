"""What `diff` says, from checksums alone."""

from __future__ import annotations

import pytest

from ckptd.catalog import FileRow
from ckptd.domain.model import Attributes, Checksums
from ckptd.engine.differing import difference, differing_bytes
from ckptd.engine.unit import Unit
from ckptd.layouts import locate
from ckptd.manifest import ManifestEntry

ATTRIBUTES = Attributes(0o644, 0, 0, 0)


def sums(*parts: int, size: int | None = None, part_size: int = 10) -> Checksums:
    size = len(parts) * part_size if size is None else size
    return Checksums(size, part_size, parts, hash((parts, size)))


def checkpoint(step: int, files: dict[str, Checksums | str | int], *, run: str = "r", cold: bool = False) -> Unit:
    """Files by name: with checksums, a link's target, or a size without checksums."""
    unit = Unit("v", run, step)
    for number, (name, what) in enumerate(files.items()):
        path = f"{run}/checkpoint-{step}/{name}"
        checksums = what if isinstance(what, Checksums) else None
        link = what if isinstance(what, str) else None
        if cold:
            unit.cold[path] = ManifestEntry(path, ATTRIBUTES, checksums, link)
            continue
        size = what if isinstance(what, int) else checksums.size if checksums else 0
        where = locate(path)
        unit.rows.append(
            FileRow(number, "v", path, where.run, where.step, link, 1, True, size, ATTRIBUTES, 0.0, None, checksums)
        )
    return unit


def states(report) -> dict[str, str]:
    return {file.name.rpartition("/")[2]: file.state for file in report.files}


@pytest.mark.parametrize(
    ("one", "other", "differing"),
    [
        (sums(1, 2, 3), sums(1, 2, 3), 0),
        (sums(1, 2, 3), sums(1, 9, 3), 10),
        (sums(1, 2, 3, size=25), sums(1, 2, 9, size=25), 5),
        (sums(1, 2), sums(1, 2, 3), 10),
        (sums(1, 2, 3), sums(1, 2), 10),
        (sums(1, 2, size=15), sums(1, 2, size=20), 10),
        (sums(1, 2, size=15), sums(1, 9, 3, size=21), 11),
        (sums(), sums(1), 10),
        (sums(1, 2, part_size=10), sums(1, part_size=20), 20),
        (sums(1, 2), sums(3, size=30, part_size=30), 30),
    ],
)
def test_bytes_in_differing_parts(one, other, differing):
    assert differing_bytes(one, other) == differing
    assert differing_bytes(other, one) == differing


def test_equal_contents_cut_into_other_parts_are_equal():
    one, other = Checksums(20, 10, (1, 2), 77), Checksums(20, 20, (3,), 77)
    assert differing_bytes(one, other) == 0


@pytest.mark.parametrize("cold", [False, True])
def test_two_steps(cold):
    before = checkpoint(100, {"m.pt": sums(1, 2, 3), "same.json": sums(4), "gone.pt": sums(5, size=7)}, cold=cold)
    after = checkpoint(200, {"m.pt": sums(1, 9, 3), "same.json": sums(4), "new.pt": sums(6, size=8)})
    report = difference(before, after)
    assert states(report) == {"m.pt": "differs", "same.json": "equal", "gone.pt": "only-one", "new.pt": "only-other"}
    assert (report.equal_bytes, report.differing_bytes) == (20 + 10, 10)
    assert (report.only_one_bytes, report.only_other_bytes, report.unchecked) == (7, 8, 0)
    assert (report.one, report.other) == ("r@100", "r@200")


def test_names_that_carry_the_step_are_the_same_file():
    before, after = checkpoint(100, {"model-100.pt": sums(1)}), checkpoint(200, {"model-200.pt": sums(1)})
    assert [file.state for file in difference(before, after).files] == ["equal"]


def test_two_runs_are_compared_as_well():
    report = difference(checkpoint(1, {"m.pt": sums(1)}), checkpoint(1, {"m.pt": sums(2)}, run="other"))
    assert (states(report), report.differing_bytes) == ({"m.pt": "differs"}, 10)


def test_links_are_compared_by_what_they_lead_to():
    report = difference(
        checkpoint(100, {"own": "m.pt", "up": "../checkpoint-100/m.pt", "moved": "a", "kind": "a"}),
        checkpoint(200, {"own": "m.pt", "up": "../checkpoint-200/m.pt", "moved": "b", "kind": sums(1)}),
    )
    assert states(report) == {"own": "equal", "up": "equal", "moved": "differs", "kind": "differs"}


def test_a_missing_checksum_is_said_not_guessed():
    report = difference(checkpoint(1, {"m.pt": 10, "n.pt": 10}), checkpoint(2, {"m.pt": 10, "n.pt": sums(1)}))
    assert (set(states(report).values()), report.unchecked, report.equal_bytes) == ({"unchecked"}, 2, 0)
