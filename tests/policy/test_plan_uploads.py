"""What goes to the remote, in which order, and when the manifest is written or taken back."""

from __future__ import annotations

import pytest
from planner_views import (
    COMMITTED,
    COMPLETE,
    LOST,
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

from ckptd.policy.actions import Commit, Uncommit, Upload
from ckptd.policy.plan import plan
from ckptd.policy.policy import Policy, Sync
from ckptd.policy.snapshot import Snapshot
from ckptd.policy.uploads import HOLD_S

LATEST = Policy(sync=Sync.LATEST)


def uploads(*units, **more) -> list[int]:
    return [action.file for action in planned(*units, **more) if isinstance(action, Upload)]


def test_a_settled_file_without_a_remote_copy_is_uploaded_at_its_generation():
    one = file(RAM, id=7)
    assert planned(unit(1, COMPLETE, one)) == (Upload(7, 1),)


@pytest.mark.parametrize(
    "more",
    [{"settled": False}, {"busy": True}, {"busy": True, "uploading": True}, {"retry_at": NOW + 1}],
    ids=["open", "busy", "uploading", "backing off"],
)
def test_a_file_that_cannot_go_now_is_left_alone(more):
    assert planned(unit(1, WRITING, file(RAM, **more))) == ()


def test_a_file_whose_backoff_is_over_goes():
    assert uploads(unit(1, WRITING, file(RAM, id=1, retry_at=NOW))) == [1]


def test_the_closed_files_of_a_save_under_way_wait_for_its_rest_but_not_for_ever():
    being_written = file(settled=False, open=True)
    just_closed = unit(1, WRITING, file(RAM, id=1, closed_at=NOW - 1), being_written)
    long_closed = unit(1, WRITING, file(RAM, id=2, closed_at=NOW - HOLD_S), being_written)
    beside_a_log = unit(None, WRITING, file(RAM, id=3, closed_at=NOW - 1), being_written)
    assert uploads(just_closed) == []
    assert uploads(long_closed) == [2]
    assert uploads(beside_a_log) == [3]


def test_a_file_without_any_copy_cannot_be_uploaded():
    assert planned(unit(1, LOST, file())) == ()


def test_a_demoted_file_is_uploaded_from_nvme():
    assert uploads(unit(1, COMPLETE, file(NVME, id=3))) == [3]


def test_complete_goes_before_writing_before_loose_before_torn():
    units = [
        unit(1, TORN, file(RAM, id=1, closed_at=1)),
        unit(None, WRITING, file(RAM, id=2, closed_at=2)),
        unit(3, WRITING, file(RAM, id=3, closed_at=3)),
        unit(2, COMPLETE, file(RAM, id=4, closed_at=4)),
    ]
    assert uploads(*units) == [4, 3, 2, 1]


def test_the_newest_complete_checkpoint_goes_first_and_the_longest_exposed_run_before_the_others():
    units = [
        unit(1, COMPLETE, file(RAM, id=1, closed_at=10)),
        unit(2, COMPLETE, file(RAM, id=2, closed_at=50)),
        unit(1, COMPLETE, file(RAM, id=3, closed_at=20), run="other"),
        unit(2, COMPLETE, file(RAM, id=4, closed_at=40), run="other"),
    ]
    assert uploads(*units) == [4, 2, 1, 3]


def test_what_was_begun_is_finished_first_so_that_fast_saves_cannot_starve_every_commit():
    units = [
        unit(1, COMPLETE, file(RAM, id=1), file(RAM, REMOTE), upload_begun=True),
        unit(2, COMPLETE, file(RAM, id=2)),
    ]
    assert uploads(*units) == [1, 2]


def test_loose_files_go_in_the_order_they_were_closed():
    loose = unit(None, WRITING, file(RAM, id=1, closed_at=30), file(RAM, id=2, closed_at=20))
    assert uploads(loose) == [2, 1]


def test_a_marker_waits_until_all_other_files_are_durable():
    marker, data = file(RAM, id=1, last=True, closed_at=1), file(RAM, id=2, closed_at=2)
    assert uploads(unit(1, COMPLETE, marker, data)) == [2]
    assert uploads(unit(1, COMPLETE, marker, file(RAM, REMOTE, id=2))) == [1]
    assert uploads(unit(1, COMPLETE, marker, file(RAM, id=2, busy=True, uploading=True))) == []


def test_a_pointer_file_waits_for_the_checkpoint_it_can_point_to():
    pointer = unit(None, WRITING, file(RAM, id=9, last=True, closed_at=200))
    assert uploads(pointer, unit(1, COMPLETE, file(RAM, id=1, closed_at=100))) == [1]
    assert uploads(pointer, committed(1, RAM)) == [9]
    assert uploads(pointer, unit(2, WRITING, file(RAM, id=2, closed_at=300, busy=True))) == [9], "closed after it"
    assert uploads(pointer, unit(1, TORN, file(RAM, id=1, closed_at=100))) == [9, 1], "nobody points to a torn one"


def test_a_pointer_that_names_a_checkpoint_waits_for_its_commit():
    pointer = unit(None, WRITING, file(RAM, id=9, last=True, closed_at=200, points_to=2))
    durable = file(RAM, REMOTE, id=1, closed_at=100)
    assert uploads(pointer, unit(2, COMPLETE, durable)) == []
    assert uploads(pointer, unit(2, TORN, durable), committed(1, RAM)) == []
    assert uploads(pointer, unit(1, TORN, durable), committed(2, RAM)) == [9]
    assert uploads(pointer, committed(1, RAM)) == [9], "what it names is not here"
    assert uploads(pointer, unit(2, COMPLETE, durable, run="other")) == [9]


def test_a_pointer_file_does_not_wait_for_a_log_that_is_never_closed():
    assert uploads(unit(None, WRITING, file(RAM, id=9, last=True), file(RAM, settled=False))) == [9]


def test_sync_latest_sends_complete_checkpoints_and_loose_files_only():
    units = [
        unit(1, TORN, file(RAM, id=1), policy=LATEST),
        unit(3, WRITING, file(RAM, id=3), policy=LATEST),
        unit(2, COMPLETE, file(RAM, id=2), policy=LATEST),
        unit(None, WRITING, file(RAM, id=4), policy=LATEST),
    ]
    assert uploads(*units) == [2, 4]


@pytest.mark.parametrize("newer", [unit(2, COMPLETE, file(RAM, busy=True), policy=LATEST), committed(2, policy=LATEST)])
def test_sync_latest_skips_what_was_superseded_before_its_upload_began(newer):
    assert planned(unit(1, COMPLETE, file(RAM, id=1), policy=LATEST), newer) == ()


def test_sync_latest_finishes_what_it_began():
    newer = unit(2, COMPLETE, file(RAM, id=2), policy=LATEST)
    assert uploads(unit(1, COMPLETE, file(RAM, id=1), policy=LATEST, upload_begun=True), newer) == [1, 2]
    assert uploads(unit(1, COMPLETE, file(RAM, id=1), file(RAM, REMOTE), policy=LATEST), newer) == [1, 2]


def test_sync_latest_does_not_count_what_is_being_written_as_superseding():
    assert uploads(unit(1, COMPLETE, file(RAM, id=1), policy=LATEST), unit(2, WRITING, file(RAM), policy=LATEST)) == [1]


# -- commit


def test_a_complete_checkpoint_is_committed_once_every_file_is_durable():
    assert planned(unit(5, COMPLETE, file(RAM, REMOTE), file(REMOTE))) == (Commit("v", "r", 5),)


@pytest.mark.parametrize(
    ("state", "more"),
    [
        (WRITING, {}),
        (TORN, {}),
        (COMMITTED, {}),
        (COMPLETE, {"busy": True}),
        (COMPLETE, {"retry_at": NOW + 1}),
        (COMPLETE, {"manifest": True, "manifest_current": True}),
    ],
)
def test_nothing_else_is_committed(state, more):
    assert planned(unit(5, state, file(RAM, REMOTE), **more)) == ()


def test_a_checkpoint_without_files_is_not_committed():
    assert planned(unit(5, COMPLETE)) == ()


def test_one_file_that_is_not_durable_holds_the_commit_back():
    assert uploads(unit(5, COMPLETE, file(RAM, REMOTE), file(RAM, id=1))) == [1]
    assert not any(isinstance(a, Commit) for a in planned(unit(5, COMPLETE, file(RAM, REMOTE), file(RAM))))


def test_loose_files_are_never_committed():
    assert planned(unit(None, WRITING, file(RAM, REMOTE))) == ()


# -- overwritten checkpoints


def test_the_manifest_goes_before_the_first_object_is_replaced():
    rewritten = unit(5, COMPLETE, file(RAM, id=1), file(RAM, REMOTE), manifest=True)
    assert planned(rewritten) == (Uncommit("v", "r", 5),)


def test_a_manifest_that_only_names_too_much_is_taken_back_before_the_new_commit():
    assert planned(unit(5, COMPLETE, file(RAM, REMOTE), manifest=True)) == (Uncommit("v", "r", 5),)


@pytest.mark.parametrize("state", [WRITING, TORN])
def test_a_rewrite_that_is_not_whole_leaves_the_committed_one_in_the_remote(state):
    assert planned(unit(5, state, file(RAM), manifest=True)) == ()


# -- remote down


def test_a_remote_that_is_down_gets_one_trial_a_volume():
    units = [
        unit(2, COMPLETE, file(RAM, id=2), remote_ok=False),
        unit(1, COMPLETE, file(RAM, id=1), remote_ok=False),
        unit(1, COMPLETE, file(RAM, id=3), file(RAM, id=4), volume="other"),
        unit(1, COMPLETE, file(RAM, id=5), volume="third", remote_ok=False),
    ]
    assert sorted(uploads(*units)) == [2, 3, 4, 5]


def test_a_commit_may_be_the_trial():
    units = [
        unit(2, COMPLETE, file(RAM, REMOTE), remote_ok=False),
        unit(1, COMPLETE, file(RAM, id=1), remote_ok=False),
    ]
    assert planned(*units) == (Commit("v", "r", 2),)


def test_no_second_trial_while_one_is_on_its_way():
    assert planned(unit(2, COMPLETE, file(RAM, busy=True, uploading=True), file(RAM), remote_ok=False)) == ()
    assert planned(unit(2, COMPLETE, file(RAM, REMOTE), busy=True, remote_ok=False)) == ()


def test_a_trial_respects_the_backoff():
    assert planned(unit(2, COMPLETE, file(RAM, retry_at=NOW + 5), remote_ok=False)) == ()


def test_a_wait_from_before_the_clock_was_set_back_does_not_count():
    assert uploads(unit(2, COMPLETE, file(RAM, id=1, retry_at=NOW + 3600))) == [1]


def test_what_a_dead_writer_left_beside_a_complete_checkpoint_is_neither_sent_nor_waited_for():
    left = file(RAM, id=1, settled=False, left_over=True)
    assert planned(unit(1, COMPLETE, left, file(RAM, REMOTE, id=2))) == (Commit("v", "r", 1),)
    assert uploads(unit(1, COMPLETE, left, file(RAM, id=2, last=True))) == [2]
    assert planned(unit(1, COMPLETE, file(RAM, id=1, settled=False), file(RAM, REMOTE, id=2))) == ()


def drained(*units) -> list[int]:
    return [a.file for a in plan(Snapshot(units, tiers(), draining=True), NOW) if isinstance(a, Upload)]


def test_a_drained_node_sends_the_newest_of_every_run_first_and_of_these_the_shortest():
    units = [
        unit(1, COMPLETE, file(RAM, REMOTE, id=1), file(RAM, id=2), run="a", upload_begun=True),
        unit(2, COMPLETE, file(RAM, id=3, size=50), run="a"),
        unit(1, COMPLETE, file(RAM, id=4, size=20, closed_at=900.0), run="b"),
        unit(9, WRITING, file(RAM, id=5, size=1), run="c"),
        unit(None, WRITING, file(RAM, id=6, size=1), run="c"),
    ]
    assert uploads(*units) == [2, 3, 4, 5, 6], "otherwise what was begun is finished first"
    assert drained(*units) == [4, 3, 2, 5, 6]


def test_a_part_of_a_checkpoint_of_several_nodes_is_worth_what_a_newest_one_is():
    units = [
        unit(1, COMPLETE, file(RAM, id=1, size=5), run="a"),
        unit(2, WRITING, file(RAM, id=2, size=1), run="a", part=True),
    ]
    assert drained(*units) == [2, 1]


def test_a_drained_node_does_not_hold_closed_files_back_for_a_save_under_way():
    being_saved = unit(1, WRITING, file(RAM, id=1, closed_at=NOW - 1), file(settled=False, open=True))
    assert uploads(being_saved) == []
    assert drained(being_saved) == [1]
