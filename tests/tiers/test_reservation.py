"""Room for the next save is kept: as much as the last one of every active run took."""

from __future__ import annotations

from ckptd.domain.model import CheckpointState, Place
from ckptd.policy.policy import Policy
from ckptd.policy.snapshot import FileView, UnitView
from ckptd.tiers.reservation import ACTIVE_S, expected_bytes

NOW = 1_000_000.0


def unit(step, state, *sizes, run="r", closed_at=NOW - 10, volume="v"):
    files = tuple(
        FileView(i, size, 1, True, frozenset({Place.RAM}), closed_at=closed_at) for i, size in enumerate(sizes)
    )
    return UnitView(volume, run, step, state, files, Policy())


COMPLETE, COMMITTED, WRITING, TORN = (CheckpointState(s) for s in ("complete", "committed", "writing", "torn"))


def test_nothing_is_expected_of_an_empty_node():
    assert expected_bytes([], NOW) == 0


def test_the_newest_whole_checkpoint_of_each_run_tells():
    units = [
        unit(1, COMMITTED, 500),
        unit(2, COMPLETE, 60, 40),
        unit(3, TORN, 999),
        unit(1, COMPLETE, 7, run="other"),
        unit(1, COMPLETE, 1000, volume="w"),
        unit(None, WRITING, 5000),
    ]
    assert expected_bytes(units, NOW) == 100 + 7 + 1000


def test_a_run_that_fell_silent_gives_its_share_back():
    quiet = unit(1, COMMITTED, 500, closed_at=NOW - ACTIVE_S - 1)
    assert expected_bytes([quiet], NOW) == 0
    assert expected_bytes([quiet, unit(2, WRITING, 1)], NOW) == 499


def test_what_is_being_written_already_is_not_counted_twice():
    assert expected_bytes([unit(1, COMPLETE, 100), unit(2, WRITING, 30)], NOW) == 70
    assert expected_bytes([unit(1, COMPLETE, 100), unit(2, WRITING, 300)], NOW) == 0


def test_a_first_save_cannot_be_foreseen():
    assert expected_bytes([unit(1, WRITING, 100)], NOW) == 0
