"""Who leaves a tier, in which order, and where to."""

from __future__ import annotations

import pytest
from planner_views import (
    COMPLETE,
    NOW,
    NVME,
    RAM,
    REMOTE,
    TORN,
    WRITING,
    committed,
    file,
    planned,
    tiers,
    unit,
)  # fmt: skip

from ckptd.policy.actions import Demote, Evict, Promote
from ckptd.policy.policy import Policy

WIDE = Policy(keep_hot=100, keep_nvme=100)
"""Policy asks for nothing: what happens is the budgets' doing."""


def moves(*units, **more) -> list[tuple[type, int]]:
    return [(type(a), a.file) for a in planned(*units, **more) if isinstance(a, Demote | Evict | Promote)]


def ranked(step: int, *copies, id: int, size: int = 10, **more):
    state = more.pop("state", None)
    one = file(*copies, id=id, size=size, closed_at=100.0 + step, **more.pop("file", {}))
    more = {"policy": WIDE, **more}
    if state is None and REMOTE in copies:
        return unit(step, COMPLETE, one, manifest=True, manifest_current=True, **more)
    return unit(step, state or COMPLETE, one, **more)


# -- policy


def test_beyond_keep_hot_a_copy_moves_to_nvme_and_beyond_keep_nvme_it_leaves_the_node():
    units = [committed(step, RAM if step > 2 else NVME, policy=Policy(keep_hot=2, keep_nvme=4)) for step in range(1, 7)]
    ids = {u.step: u.files[0].id for u in units}
    assert moves(*units) == [(Evict, ids[1]), (Evict, ids[2]), (Demote, ids[3]), (Demote, ids[4])]


def test_keep_hot_counts_even_where_keep_nvme_is_smaller():
    units = [committed(step, RAM, policy=Policy(keep_hot=2, keep_nvme=0)) for step in (1, 2, 3)]
    assert moves(*units) == [(Evict, units[0].files[0].id)]


def test_what_is_not_durable_is_demoted_but_never_evicted():
    units = [
        ranked(step, RAM, id=step, policy=Policy(keep_hot=0, keep_nvme=0), file={"retry_at": NOW + 60})
        for step in (1, 2)
    ]
    assert moves(*units) == [(Demote, 1), (Demote, 2)]
    assert moves(*units, room=tiers(nvme=None)) == []


def test_without_nvme_or_with_a_full_one_a_committed_checkpoint_beyond_keep_hot_leaves_ram_altogether():
    units = [committed(step, RAM, policy=Policy(keep_hot=1)) for step in (1, 2)]
    assert moves(*units, room=tiers(nvme=None)) == [(Evict, units[0].files[0].id)]
    assert moves(*units, room=tiers(nvme=5)) == [(Evict, units[0].files[0].id)]


def test_a_newer_checkpoint_displaces_an_older_one_on_a_full_nvme():
    units = [
        committed(1, NVME, policy=Policy(keep_hot=1)),
        committed(2, RAM, policy=Policy(keep_hot=1)),
        committed(3, RAM, policy=Policy(keep_hot=1)),
    ]
    assert moves(*units, room=tiers(nvme=15)) == [(Evict, units[0].files[0].id)], (
        "room first, the move in the next plan"
    )


def test_policy_does_not_push_loose_files_out():
    loose = unit(None, WRITING, file(NVME, REMOTE, id=1))
    units = [committed(1, RAM, policy=Policy(keep_hot=1)), committed(2, RAM, policy=Policy(keep_hot=1))]
    assert moves(loose, *units, room=tiers(nvme=15)) == [(Evict, units[0].files[0].id)]


def test_a_checkpoint_is_not_moved_by_policy_while_it_is_uploading():
    policy = Policy(keep_hot=0)
    assert moves(unit(1, COMPLETE, file(RAM, REMOTE), file(RAM, busy=True, uploading=True), policy=policy)) == []


@pytest.mark.parametrize("pin", [RAM, NVME])
def test_a_pinned_checkpoint_stays_on_the_node(pin):
    pinned = committed(1, RAM, policy=Policy(keep_hot=0, keep_nvme=0), pinned=pin)
    expected = [] if pin is RAM else [(Demote, pinned.files[0].id)]
    assert moves(pinned, committed(2)) == expected
    assert moves(committed(1, NVME, policy=Policy(keep_hot=0, keep_nvme=0), pinned=NVME)) == []


def test_busy_things_are_left_alone():
    policy = Policy(keep_hot=0, keep_nvme=0)
    assert moves(committed(1, RAM, policy=policy, busy=True)) == []
    assert (
        moves(unit(1, COMPLETE, file(RAM, REMOTE, busy=True), policy=policy, manifest=True, manifest_current=True))
        == []
    )
    assert moves(unit(1, COMPLETE, file(RAM, REMOTE, move_retry_at=NOW + 1), policy=policy)) == []


def test_a_failed_upload_does_not_keep_a_file_from_being_demoted():
    assert moves(ranked(1, RAM, id=1, file={"retry_at": NOW + 60}), room=tiers(ram=5)) == [(Demote, 1)]


# -- pressure in RAM


def test_pressure_takes_spare_files_then_the_lowest_ranks_then_what_is_needed():
    units = [
        unit(None, WRITING, file(RAM, REMOTE, id=1, closed_at=20), policy=WIDE),
        unit(9, TORN, file(RAM, id=2, closed_at=10, busy=False, retry_at=NOW + 60), policy=WIDE),
        ranked(3, RAM, REMOTE, id=3),
        ranked(4, RAM, REMOTE, id=4),
        unit(10, WRITING, file(RAM, id=5, retry_at=NOW + 60), policy=WIDE),
        unit(None, WRITING, file(RAM, id=6, closed_at=200, retry_at=NOW + 60), policy=WIDE, run="x"),
    ]
    order = [2, 1, 3, 4, 5, 6]
    for count in range(len(order) + 1):
        found = moves(*units, room=tiers(ram=60 - 10 * count))
        assert found == [(Demote, file_id) for file_id in order[:count]]


def test_pressure_counts_the_reserve():
    units = [ranked(1, RAM, REMOTE, id=1), ranked(2, RAM, REMOTE, id=2)]
    assert moves(*units, room=tiers(ram=20)) == []
    assert moves(*units, room=tiers(ram=20, ram_reserve=1)) == [(Demote, 1)]


def test_pressure_counts_what_is_on_its_way_out_already():
    leaving = ranked(1, RAM, REMOTE, id=1, file={"busy": True, "moving_to": NVME})
    evicted = ranked(1, RAM, REMOTE, id=1, file={"busy": True, "leaving": True})
    stays = ranked(2, RAM, REMOTE, id=2)
    assert moves(leaving, stays, room=tiers(ram=10)) == []
    assert moves(evicted, stays, room=tiers(ram=10)) == []


def test_with_a_full_nvme_durable_files_are_evicted_and_others_stay():
    units = [ranked(1, RAM, REMOTE, id=1), ranked(2, RAM, id=2, file={"retry_at": NOW + 60})]
    assert moves(*units, room=tiers(ram=0, nvme=0)) == [(Evict, 1)]


def test_a_file_that_is_not_durable_displaces_anything_durable_from_nvme():
    units = [ranked(5, NVME, REMOTE, id=1), ranked(2, RAM, id=2, file={"retry_at": NOW + 60})]
    assert moves(*units, room=tiers(ram=0, nvme=15)) == [(Evict, 1)]


def test_a_durable_file_does_not_displace_what_is_worth_more():
    units = [ranked(5, NVME, REMOTE, id=1), ranked(2, RAM, REMOTE, id=2)]
    assert moves(*units, room=tiers(ram=0, nvme=15)) == [(Evict, 2)]


def test_nothing_is_displaced_for_a_file_that_would_not_fit_even_then():
    units = [ranked(5, NVME, REMOTE, id=1), ranked(6, RAM, id=2, size=50, file={"retry_at": NOW + 60})]
    assert moves(*units, room=tiers(ram=0, nvme=40)) == []


def test_moves_of_one_plan_fit_together():
    units = [ranked(step, RAM, id=step, file={"retry_at": NOW + 60}) for step in range(1, 6)]
    assert moves(*units, room=tiers(ram=0, nvme=25)) == [(Demote, 1), (Demote, 2)]


def test_files_of_a_checkpoint_being_written_are_never_evicted():
    assert moves(unit(1, WRITING, file(RAM, REMOTE, id=1), policy=WIDE), room=tiers(ram=0, nvme=None)) == []


def test_what_is_pinned_to_ram_leaves_it_last_and_not_for_the_reserve():
    units = [ranked(1, RAM, REMOTE, id=1, pinned=RAM), ranked(2, RAM, REMOTE, id=2)]
    assert moves(*units, room=tiers(ram=10, ram_reserve=10)) == [(Demote, 2)]
    assert moves(*units, room=tiers(ram=5)) == [(Demote, 2), (Demote, 1)]
    assert moves(*units, room=tiers(ram=5, nvme=None)) == [(Evict, 2), (Evict, 1)]


# -- pressure on NVMe


def test_nvme_over_its_budget_evicts_durable_files_lowest_rank_first_and_never_pinned_ones():
    units = [
        ranked(1, NVME, REMOTE, id=1, pinned=NVME),
        ranked(2, NVME, id=2, file={"retry_at": NOW + 60}),
        ranked(3, NVME, REMOTE, id=3),
        ranked(4, NVME, REMOTE, id=4),
        unit(None, WRITING, file(NVME, REMOTE, id=5), policy=WIDE),
    ]
    assert moves(*units, room=tiers(nvme=40)) == [(Evict, 5)]
    assert moves(*units, room=tiers(nvme=30)) == [(Evict, 5), (Evict, 3)]
    assert moves(*units, room=tiers(nvme=0)) == [(Evict, 5), (Evict, 3), (Evict, 4)]


# -- pins


def test_what_is_pinned_to_ram_comes_back_while_it_fits_beside_the_reserve():
    pinned = ranked(1, NVME, REMOTE, id=1, pinned=RAM)
    assert moves(pinned) == [(Promote, 1)]
    assert moves(pinned, room=tiers(ram=10, ram_reserve=1)) == []
    assert moves(ranked(1, REMOTE, id=1, pinned=RAM)) == [(Promote, 1)]
    assert moves(ranked(1, REMOTE, id=1, pinned=RAM, remote_ok=False)) == []
    assert moves(ranked(1, NVME, REMOTE, id=1)) == []
    assert moves(unit(1, TORN, file(NVME, REMOTE, id=1), pinned=RAM)) == []


def test_promotions_of_one_plan_fit_together():
    units = [ranked(step, NVME, REMOTE, id=step, pinned=RAM) for step in (1, 2, 3)]
    assert len(moves(*units, room=tiers(ram=25))) == 2


def test_pins_alone_never_make_the_planner_go_in_circles():
    pinned = ranked(1, NVME, REMOTE, id=1, pinned=RAM)
    assert moves(pinned, ranked(2, RAM, REMOTE, id=2), room=tiers(ram=15)) == []


# -- in general


def test_relief_of_pressure_comes_before_uploads_and_a_file_has_one_action():
    found = planned(ranked(1, RAM, id=1), ranked(2, RAM, id=2), room=tiers(ram=10))
    assert [(type(a).__name__, a.file) for a in found] == [("Demote", 1), ("Upload", 2)]


def test_the_order_of_units_in_the_snapshot_does_not_matter():
    units = [committed(step, RAM, run=run, policy=Policy(keep_hot=1)) for step in (3, 1, 2) for run in ("b", "a")]
    assert planned(*units) == planned(*reversed(units))
