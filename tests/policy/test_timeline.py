"""Which of a run's checkpoints the job has left behind by going back to an earlier step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planner_views import RAM, committed, planned

from ckptd.policy.actions import Demote, Prune
from ckptd.policy.policy import Policy
from ckptd.policy.timeline import Written, superseded


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([], set()),
        ([(1000, 10, 11), (1100, 20, 21), (1200, 30, 31)], set()),
        ([(1000, 10, 11), (1100, 40, 41), (1200, 30, 31)], {1200}),
        ([(1000, 10, 11), (1100, 40, 41), (1200, 30, 31), (1300, 35, 36)], {1200, 1300}),
        ([(1000, 10, 11), (1100, 40, 41), (1200, 50, 51)], set()),  # the new timeline has come to 1200 again
        ([(1100, 20, 40), (1200, 30, 31)], set()),  # a config of an old step was touched
        ([(1100, 31, 33), (1200, 30, 32)], set()),  # saves that overlap
        ([(1100, 30, 30), (1200, 30, 30)], set()),  # copied with one time
    ],
)
def test_the_newer_write_wins(written: list[tuple[int, int, int]], expected: set[int]) -> None:
    assert superseded([Written(*one) for one in written]) == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50), st.integers(0, 9)), unique_by=lambda one: one[0]))
def test_the_last_that_was_written_is_never_superseded(found: list[tuple[int, int, int]]) -> None:
    written = [Written(step, at, at + more) for step, at, more in found]
    past = superseded(written)
    if written:
        newest = max(written, key=lambda one: (one.last_at, one.step))
        assert newest.step not in past
    for one in written:
        overtaken = any(other.step < one.step and other.model_at > one.last_at for other in written)
        assert (one.step in past) == overtaken


def test_the_large_files_tell_when_it_was_written() -> None:
    assert Written.of(5, [(1, 5), (160, 20), (100, 10), (50, 30), (2, 99)]) == Written(5, 10, 99)
    converted = Written.of(5, [(100, 10), (200, 50)])  # put into the directory after step 9 was written
    assert converted is not None
    assert superseded([converted, Written(9, 30, 31)]) == set()
    assert Written.of(5, []) is None


def test_what_is_superseded_goes_first() -> None:
    policy = Policy(keep_hot=1, keep_nvme=2)
    old, new = committed(1200, RAM, superseded=True, policy=policy), committed(1100, RAM, policy=policy)
    assert [action.file for action in planned(old, new) if isinstance(action, Demote)] == [old.files[0].id]
    policy = Policy(keep_hot=0, keep_nvme=0, keep_remote=1)
    gone = committed(1200, policy=policy, superseded=True), committed(1100, policy=policy)
    assert [action.step for action in planned(*gone) if isinstance(action, Prune)] == [1200]
