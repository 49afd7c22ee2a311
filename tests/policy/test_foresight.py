"""What a policy would let go, foreseen by carrying its plans out on paper."""

from __future__ import annotations

from dataclasses import replace

from planner_views import COMPLETE, NOW, NVME, RAM, REMOTE, WRITING, committed, file, tiers, unit

from ckptd.policy.foresight import foresee
from ckptd.policy.policy import Policy, Sync
from ckptd.policy.snapshot import Snapshot


def foreseen(*units, room=None):
    """By step: the actions, and what they free in RAM and NVMe."""
    counted = tuple(
        replace(tier, used=sum(f.size for u in units for f in u.files if tier.place in f.copies))
        for tier in (tiers() if room is None else room)
    )
    found = foresee(Snapshot(units, counted), NOW)
    return {one.unit[2]: (one.actions, one.freed[RAM], one.freed[NVME]) for one in found}


def test_nothing_is_foreseen_where_the_policy_is_kept():
    assert foreseen(*[committed(step, RAM) for step in (1, 2)]) == {}


def test_what_is_beyond_keep_hot_goes_to_nvme():
    policy = Policy(keep_hot=1, keep_nvme=4)
    assert foreseen(committed(1, RAM, policy=policy), committed(2, RAM, policy=policy)) == {1: (("demote",), 10, -10)}


def test_what_is_beyond_keep_nvme_leaves_the_node():
    policy = Policy(keep_hot=1, keep_nvme=1)
    assert foreseen(committed(1, NVME, policy=policy), committed(2, RAM, policy=policy)) == {1: (("evict",), 0, 10)}


def test_what_is_evicted_first_and_pruned_then_is_foreseen_whole():
    policy = Policy(keep_hot=1, keep_nvme=1, keep_remote=1)
    units = [committed(1, policy=policy), committed(2, RAM, policy=policy), committed(3, RAM, policy=policy)]
    assert foreseen(*units) == {1: (("prune",), 0, 0), 2: (("evict", "prune"), 10, 0)}


def test_what_is_protected_is_not_foreseen_to_go():
    policy = Policy(keep_hot=1, keep_nvme=1, keep_remote=1)
    units = [committed(1, policy=policy, protected=True), committed(2, RAM, policy=policy, pinned=RAM)]
    assert foreseen(*units, committed(3, RAM, policy=policy)) == {}


def test_what_is_not_durable_stays():
    policy = Policy(keep_hot=1, keep_nvme=1, keep_remote=1)
    for room in (tiers(), tiers(nvme=None)):
        assert foreseen(unit(1, COMPLETE, file(RAM), policy=policy), committed(2, RAM, policy=policy), room=room) == {}


def test_what_sync_latest_skipped_is_abandoned():
    policy = Policy(keep_hot=1, keep_nvme=1, sync=Sync.LATEST)
    assert foreseen(unit(1, COMPLETE, file(RAM), policy=policy), committed(2, RAM, policy=policy)) == {
        1: (("abandon",), 10, 0)
    }


def test_several_files_of_a_checkpoint_count_together():
    policy = Policy(keep_hot=1, keep_nvme=1)
    old = replace(committed(1, policy=policy), files=(file(RAM, REMOTE, size=5), file(NVME, REMOTE, size=7)))
    assert foreseen(old, committed(2, RAM, policy=policy)) == {1: (("evict",), 5, 7)}


def test_room_that_one_plan_makes_is_used_by_the_next():
    policy = Policy(keep_hot=1, keep_nvme=2)
    units = [committed(1, NVME, policy=policy), committed(2, RAM, policy=policy), committed(3, RAM, policy=policy)]
    assert foreseen(*units, room=tiers(nvme=10)) == {1: (("evict",), 0, 10), 2: (("demote",), 10, -10)}


def test_nothing_is_changed():
    units = (committed(1, RAM, policy=Policy(keep_hot=0, keep_nvme=0)), unit(2, WRITING, file(RAM, settled=False)))
    snapshot = Snapshot(units, tiers())
    foresee(snapshot, NOW)
    assert snapshot == Snapshot(units, tiers())
