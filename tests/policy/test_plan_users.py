"""Several users on one node: uploads in turn, and shares of memory."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from planner_views import COMMITTED, COMPLETE, NVME, RAM, REMOTE, WRITING, file, planned, tiers, unit

from ckptd.domain.model import CheckpointState, Place
from ckptd.policy.actions import Demote, Evict, Upload
from ckptd.policy.plan import plan
from ckptd.policy.policy import Policy
from ckptd.policy.snapshot import Snapshot, TierView, UnitView

ALICE, BOB = 1, 2
ALL_HOT = Policy(keep_hot=99, keep_nvme=99)


def uploads(*units: UnitView) -> list[int]:
    return [action.file for action in planned(*units, room=tiers(ram=10**9)) if isinstance(action, Upload)]


def test_users_take_turns():
    flood = [unit(step, COMPLETE, file(RAM, id=step, size=100), run="a", owner=ALICE) for step in (1, 2, 3)]
    small = unit(1, COMPLETE, file(RAM, id=9, size=10), run="b", owner=BOB)
    assert uploads(*flood, small) == [3, 9, 2, 1]


def test_what_one_has_on_the_way_counts():
    on_the_way = unit(9, COMPLETE, file(RAM, size=100, busy=True, uploading=True), run="a", owner=ALICE)
    more = unit(8, COMPLETE, file(RAM, id=1, size=100), run="a", owner=ALICE)
    small = unit(1, WRITING, file(RAM, id=9, size=50), file(RAM, id=10, size=60), run="b", owner=BOB)
    assert uploads(on_the_way, more, small) == [9, 10, 1]


def test_what_lies_in_another_users_directory_is_not_sent():
    assert uploads(unit(1, COMPLETE, file(RAM), foreign=True), unit(None, WRITING, file(RAM), foreign=True)) == []


_UNITS = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3]), st.sampled_from([COMPLETE, WRITING, CheckpointState.TORN]),
        st.lists(st.integers(0, 100), min_size=1, max_size=4),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@given(_UNITS)
def test_at_every_moment_nobody_who_waits_is_behind_by_more_than_one_file(drawn):
    owner_of, size_of, units = {}, {}, []
    for step, (owner, state, sizes) in enumerate(drawn):
        files = [file(RAM, size=size, closed_at=float(step)) for size in sizes]
        owner_of |= {one.id: owner for one in files}
        size_of |= {one.id: one.size for one in files}
        units.append(unit(step, state, *files, run=f"of-{owner}", owner=owner))
    order = uploads(*units)
    assert sorted(order) == sorted(owner_of), "everything, once"
    for owner in set(owner_of.values()):
        alone = uploads(*(one for one in units if one.owner == owner))
        assert [one for one in order if owner_of[one] == owner] == alone, "each keeps his order"
    got, left = Counter(), Counter(owner_of.values())
    largest = max(size_of.values())
    for one in order:
        got[owner_of[one]] += size_of[one]
        left[owner_of[one]] -= 1
        for other in (other for other, count in left.items() if count):
            assert got[owner_of[one]] - got[other] <= largest


def shared(budget: int, *units: UnitView, nvme: int = 1000):
    used = {place: sum(f.size for u in units for f in u.files if place in f.copies) for place in (RAM, NVME)}
    room = tuple(TierView(tier.place, tier.budget, used[tier.place], tier.reserve) for tier in tiers(nvme=nvme))
    return plan(Snapshot(units, room, budget), 1000.0)


def hot(step: int, owner: int, **more: object) -> UnitView:
    return unit(
        step, COMMITTED, file(RAM, REMOTE, id=owner * 100 + step), run=f"r{owner}", owner=owner, policy=ALL_HOT, **more
    )


def test_beyond_his_share_a_users_own_older_checkpoints_leave_memory():
    units = [*(hot(step, ALICE) for step in (1, 2, 3)), hot(1, BOB)]
    assert [action for action in shared(20, *units) if isinstance(action, Demote)] == [Demote(101, 1)]
    assert [action for action in shared(10, *units) if isinstance(action, Demote)] == [Demote(101, 1), Demote(102, 1)]
    assert shared(0, *units) == shared(30, *units) == ()


def test_what_is_pinned_or_being_written_stays_whatever_the_share():
    writing = unit(2, WRITING, file(RAM, open=True, settled=False), run="r1", owner=ALICE)
    units = [hot(1, ALICE, pinned=RAM), writing, hot(3, ALICE)]
    assert [action.file for action in shared(5, *units)] == [103]


def test_where_nvme_has_no_room_what_is_durable_leaves_altogether():
    assert list(shared(10, hot(1, ALICE), hot(2, ALICE), nvme=0)) == [Evict(101, 1)]


def test_what_is_on_its_way_out_counts_no_more():
    leaving = unit(1, COMMITTED, file(RAM, REMOTE, busy=True, moving_to=NVME), run="r1", owner=ALICE, policy=ALL_HOT)
    assert shared(10, leaving, hot(2, ALICE)) == ()
    assert Place.RAM in hot(2, ALICE).files[0].copies
