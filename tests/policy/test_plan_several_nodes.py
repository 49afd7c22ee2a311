"""What a node does with its part of a checkpoint that several nodes write."""

from __future__ import annotations

import pytest
from planner_views import RAM, REMOTE, TORN, WRITING, committed, file, planned, unit

from ckptd.policy.actions import Abandon, Commit, Prune, Uncommit, Upload
from ckptd.policy.policy import Policy, Sync

KEEP = Policy(keep_hot=1, keep_nvme=1, keep_remote=1)


def kinds(*units) -> list[type]:
    return [type(action) for action in planned(*units)]


def test_a_part_is_sent_and_committed_while_the_whole_is_still_being_written():
    assert kinds(unit(1, WRITING, file(RAM), part=True)) == [Upload]
    assert kinds(unit(1, WRITING, file(RAM, REMOTE), part=True)) == [Commit]


def test_what_is_not_ready_is_not_committed():
    assert kinds(unit(1, WRITING, file(RAM, REMOTE))) == []


def test_a_committed_part_is_not_committed_again():
    assert kinds(unit(1, WRITING, file(RAM, REMOTE), part=True, part_committed=True)) == []


def test_a_part_that_replaces_what_was_committed_takes_that_back_first():
    assert kinds(unit(1, WRITING, file(RAM), part=True, manifest=True)) == [Uncommit]


def test_sync_latest_sends_a_part_as_soon_as_it_is_ready():
    latest = Policy(sync=Sync.LATEST)
    assert kinds(unit(1, WRITING, file(RAM), policy=latest)) == []
    assert kinds(unit(1, WRITING, file(RAM), policy=latest, part=True)) == [Upload]


def test_a_file_that_counts_from_another_node_is_neither_sent_nor_waited_for():
    found = planned(unit(1, WRITING, file(RAM, REMOTE), file(RAM, left_over=True), part=True))
    assert [type(action) for action in found] == [Commit]


def test_what_another_node_took_away_is_not_sent_again():
    assert kinds(unit(1, TORN, file(RAM), withdrawn=True)) == []
    assert kinds(unit(1, TORN, file(RAM))) == [Upload]


def test_what_another_node_pruned_is_let_go_where_policy_does_not_keep_it():
    pruned = unit(1, TORN, file(RAM), withdrawn=True, policy=KEEP)
    assert Abandon("v", "r", 1) in planned(pruned, committed(2, RAM, policy=KEEP))


@pytest.mark.parametrize(
    "more",
    [{"pinned": RAM}, {"protected": True}, {"policy": Policy()}, {"policy": Policy(keep_remote=1, keep_every=1)}],
    ids=str,
)
def test_and_kept_where_something_keeps_it(more):
    its = unit(1, TORN, file(RAM), **{"withdrawn": True, "policy": KEEP, **more})
    assert Abandon not in kinds(its, committed(2, RAM, policy=KEEP))


def test_another_node_prunes():
    def prunes(shared: bool):
        return [
            a
            for a in planned(committed(1, policy=KEEP, shared=shared), committed(2, policy=KEEP))
            if isinstance(a, Prune)
        ]

    assert prunes(shared=False) == [Prune("v", "r", 1)]
    assert prunes(shared=True) == []
