"""What is let go for good: only what was asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planner_views import COMPLETE, NOW, NVME, RAM, REMOTE, committed, file, planned, unit

from ckptd.policy.actions import Abandon, Prune, Upload
from ckptd.policy.policy import Policy, Sync

LATEST = Policy(keep_hot=1, keep_nvme=1, sync=Sync.LATEST)


def let_go(*units, **more):
    return [action for action in planned(*units, **more) if isinstance(action, Abandon | Prune)]


def skipped(step: int = 1, **more):
    return unit(step, COMPLETE, file(RAM, **more.pop("file", {})), **{"policy": LATEST, **more})


def test_a_skipped_checkpoint_is_abandoned_once_a_newer_one_is_committed():
    assert planned(skipped(), committed(2, RAM, policy=LATEST)) == (Abandon("v", "r", 1),)


@pytest.mark.parametrize(
    "unit_",
    [
        skipped(upload_begun=True),
        skipped(pinned=NVME),
        skipped(protected=True),
        skipped(protected=True, asked_for=True),
        skipped(busy=True),
        skipped(file={"busy": True}),
        skipped(policy=replace(LATEST, sync=Sync.ALL)),
        skipped(policy=replace(LATEST, keep_hot=2)),
        skipped(policy=replace(LATEST, keep_nvme=2)),
        unit(1, COMPLETE, file(RAM), file(RAM, REMOTE), policy=LATEST),
        unit(1, COMPLETE, file(), policy=LATEST),
    ],
    ids=[
        "begun",
        "pinned",
        "linked",
        "tagged",
        "unit busy",
        "file busy",
        "sync all",
        "hot",
        "nvme",
        "partly durable",
        "nothing to drop",
    ],
)
def test_nothing_else_is_abandoned(unit_):
    assert let_go(unit_, committed(2, RAM, policy=LATEST)) == []


def test_a_newer_checkpoint_that_is_only_complete_is_not_enough():
    assert let_go(skipped(), unit(2, COMPLETE, file(RAM), policy=LATEST)) == []


def test_the_newest_checkpoint_is_never_abandoned():
    assert let_go(committed(1, policy=LATEST), skipped(2)) == []


def test_beyond_keep_remote_the_oldest_committed_checkpoints_leave_the_remote():
    policy = Policy(keep_remote=2, keep_every=100)
    units = [committed(step, policy=policy) for step in (100, 150, 160, 170, 180)]
    assert let_go(*units) == [Prune("v", "r", 150), Prune("v", "r", 160)]


def test_keep_remote_zero_keeps_everything():
    assert let_go(*[committed(step) for step in range(50)]) == []


@pytest.mark.parametrize(
    "more",
    [
        {"pinned": RAM},
        {"protected": True},
        {"busy": True},
        {"remote_ok": False},
        {"retry_at": NOW + 1},
        {"manifest": False},
    ],
    ids=str,
)
def test_some_are_not_pruned_now(more):
    policy = Policy(keep_remote=1)
    units = [committed(1, policy=policy, **more), committed(2, policy=policy)]
    assert let_go(*units) == []


@pytest.mark.parametrize("place", [RAM, NVME])
def test_what_a_tier_still_holds_is_not_pruned(place):
    policy = Policy(keep_remote=1)
    assert let_go(committed(1, place, policy=policy), committed(2, policy=policy)) == []


def test_only_committed_checkpoints_count_for_keep_remote():
    policy = Policy(keep_remote=1)
    assert let_go(committed(1, policy=policy), unit(2, COMPLETE, file(RAM), policy=policy)) == []


def test_what_a_tag_names_is_sent_where_sync_latest_would_skip_it():
    older = skipped(asked_for=True, protected=True)
    assert Upload(older.files[0].id, 1) in planned(older, committed(2, RAM, policy=LATEST))
    assert [a for a in planned(skipped(), committed(2, RAM, policy=LATEST)) if isinstance(a, Upload)] == []


def test_what_is_protected_does_not_count_against_the_others():
    policy = Policy(keep_remote=2)
    units = [committed(step, policy=policy, protected=step == 1) for step in (1, 2, 3, 4)]
    assert let_go(*units) == [Prune("v", "r", 2)]
