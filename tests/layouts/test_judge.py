"""When a checkpoint counts as complete, and when as torn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptd.domain.model import CheckpointState as State
from ckptd.layouts import Member, Verdict, judge, names_of

NOW = 1000.0
SETTLE = 2.0


def members(*names: str, step: int = 1200, at: float = NOW - 100, **change: object) -> list[Member]:
    return [
        Member(f"run/checkpoint-{step}/{name}", **({"settled": True, "defect": None, "changed_at": at} | change))  # type: ignore[arg-type]
        for name in names
    ]


def verdict(found: list[Member], previous: list[Member] | None = None, now: float = NOW) -> Verdict:
    return judge(found, now=now, settle_s=SETTLE, previous=names_of(previous) if previous else None)


PAIR = ("model.safetensors", "optimizer.safetensors")


def test_without_a_marker_it_is_complete_when_it_was_quiet_for_the_settle_time() -> None:
    fresh = members(*PAIR, at=NOW - 1.5)
    assert verdict(fresh).state is State.WRITING
    assert verdict(fresh).wake_at == NOW + 0.5
    assert verdict(fresh, now=NOW + 0.5).state is State.COMPLETE


def test_an_open_file_means_it_is_being_written() -> None:
    found = members("model.safetensors") + members("optimizer.safetensors", settled=False)
    assert verdict(found).state is State.WRITING
    assert verdict(found).wake_at is None
    assert "optimizer.safetensors" in verdict(found).reason


@pytest.mark.parametrize("marker", ["trainer_state.json", "_SUCCESS", ".complete", "DONE", "commit_success.txt"])
def test_a_marker_makes_it_complete_at_once(marker: str) -> None:
    assert verdict(members("model.safetensors", marker, at=NOW)).state is State.COMPLETE


def test_a_marker_further_down_speaks_for_its_part_only() -> None:
    assert verdict(members("a/x.bin", "a/DONE", "b/x.bin", at=NOW)).state is State.WRITING


def test_what_lacks_a_file_that_the_one_before_has_is_torn_once_it_is_quiet() -> None:
    before = members(*PAIR, step=1100)
    assert verdict(members("model.safetensors", at=NOW), before).state is State.WRITING
    found = verdict(members("model.safetensors"), before)
    assert (found.state, found.root) == (State.TORN, "run/checkpoint-1200")
    assert "optimizer.safetensors" in found.reason
    assert verdict(members(*PAIR, "extra.json"), before).state is State.COMPLETE


def test_a_defect_is_torn_once_it_is_quiet() -> None:
    short = "cut short: header promises 12,345 bytes, file has 4,096"
    assert verdict(members("model.safetensors", defect=short, at=NOW)).state is State.WRITING
    found = verdict(members("model.safetensors", "_SUCCESS", defect=short))
    assert (found.state, found.reason) == (State.TORN, f"model.safetensors: {short}")


def test_a_missing_shard_is_torn_even_with_a_marker() -> None:
    shards = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    assert verdict(members(*shards, "trainer_state.json", at=NOW)).state is State.COMPLETE
    found = verdict(members(shards[0], shards[2], "trainer_state.json"))
    assert found.state is State.TORN
    assert shards[1] in found.reason


def test_what_an_index_names_must_be_there() -> None:
    found = members("w.safetensors.index.json", requires=frozenset({"w-a.safetensors"}))
    assert verdict(found + members("other.bin")).state is State.TORN
    assert verdict(found + members("w-a.safetensors")).state is State.COMPLETE


def test_a_distributed_checkpoint_is_torn_without_its_metadata() -> None:
    parts = ["model/__0_0.distcp", "model/__1_0.distcp", "optim/__0_0.distcp"]
    assert verdict(members(*parts)).state is State.TORN
    assert verdict(members(*parts, "model/.metadata")).state is State.TORN
    both = (*parts, "model/.metadata", "optim/.metadata")
    assert (verdict(members(*both)).state, verdict(members(*both)).framework) == (State.COMPLETE, "torch-dcp")


def test_a_metadata_file_further_down_speaks_for_its_part_only() -> None:
    assert verdict(members("__0_0.distcp", ".metadata", at=NOW)).state is State.COMPLETE
    first = members("model/__0_0.distcp", "model/.metadata", at=NOW)  # the optimizer's part is not begun yet
    assert verdict(first).state is State.WRITING


def test_a_trainers_checkpoint_lacks_its_state_file_only_if_earlier_ones_had_it() -> None:
    files = ("model.safetensors", "training_args.bin", "rng_state.pth")
    before = members(*files, "trainer_state.json", step=1100)
    assert verdict(members(*files), before).state is State.TORN
    assert verdict(members(*files), members(*files, step=1100)).state is State.COMPLETE


def test_a_checkpoint_that_is_written_again_does_not_trust_the_old_marker() -> None:
    old = members("optimizer.pt", "trainer_state.json", at=NOW - 500)
    assert verdict(old + members("model.safetensors", at=NOW)).state is State.WRITING
    assert verdict(old + members("model.safetensors", at=NOW - 50)).state is State.TORN
    assert verdict(old + members("eval.json", at=NOW - 50)).state is State.COMPLETE
    again = members("optimizer.pt", "trainer_state.json", "model.safetensors", at=NOW - 1)
    assert verdict(again).state is State.COMPLETE


def test_a_file_left_under_its_temporary_name_tears_it_unless_another_wrote_it_since() -> None:
    left = members("model.safetensors.tmp")
    assert verdict(left + members("optimizer.safetensors")).state is State.TORN
    assert verdict(left + members(*PAIR)).state is State.COMPLETE
    assert verdict(members(".hidden.x7", "model.safetensors", "trainer_state.json")).state is State.COMPLETE
    directory = [Member("run/tmp-checkpoint-1200/model.safetensors", settled=True, defect=None, changed_at=NOW - 100)]
    assert verdict(directory).state is State.TORN
    assert verdict(directory + members("model.safetensors")).state is State.COMPLETE


def test_fewer_processes_are_no_reason_to_call_it_torn() -> None:
    ranks = [f"rng_state_{rank}.pth" for rank in range(8)]
    before = members("model.safetensors", *ranks, step=1100)
    assert verdict(members("model.safetensors", *ranks[:4]), before).state is State.COMPLETE
    assert verdict(members("model.safetensors", *ranks[:7]), before).state is State.TORN
    assert verdict(members("model.safetensors", *ranks[1:5:2]), before).state is State.TORN
    assert verdict(members("model.safetensors"), before).state is State.TORN


def test_another_number_of_shards_is_another_whole_set() -> None:
    three = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    two = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    before = members(*three, step=1100)
    assert verdict(members(*two), before).state is State.COMPLETE
    assert verdict(members(two[0]), before).state is State.TORN


@pytest.mark.parametrize("jump", [1.0, 3600.0])
def test_a_clock_that_was_set_back_does_not_hold_it_up(jump: float) -> None:
    found = verdict(members(*PAIR, at=NOW + jump))
    assert found.state is State.COMPLETE or (found.wake_at is not None and found.wake_at <= NOW + SETTLE)


@pytest.mark.parametrize(
    ("paths", "root"),
    [
        (["run/checkpoint-5/a/x.pt"], "run/checkpoint-5"),
        (["run/model-5.pt"], "run/model-5.pt"),
        (["run/model-5.pt", "run/optim-5.pt"], "run"),
        (["model-5.pt", "optim-5.pt"], "."),
        (["checkpoint-5/a", "checkpoint-5/b"], "checkpoint-5"),
        (["run/checkpoint-5/a", "run/global_step5/b"], "run"),
        (["run/epoch=1-step=5.ckpt"], "run/epoch=1-step=5.ckpt"),
    ],
)
def test_the_root_is_what_a_script_resumes_from(paths: list[str], root: str) -> None:
    found = [Member(path, settled=True, defect=None, changed_at=0.0) for path in paths]
    assert verdict(found).root == root
    assert verdict(found).state is State.COMPLETE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("run/checkpoint-5/model-5.pt", "run/checkpoint-600/model-600.pt"),
        ("run/epoch=1-step=5-loss=0.25.ckpt", "run/epoch=2-step=600-loss=0.125.ckpt"),
        ("run/global_step5/mp_rank_00_model_states.pt", "run/global_step600/mp_rank_00_model_states.pt"),
        ("run/5/x", "run/600/x"),
        ("run/model-5-00001-of-00002.safetensors", "run/model-600-00001-of-00002.safetensors"),
    ],
)
def test_names_of_two_steps_can_be_compared(one: str, other: str) -> None:
    assert names_of([Member(one, True, None, 0.0)]) == names_of([Member(other, True, None, 0.0)])


@pytest.mark.parametrize(
    ("name", "framework"),
    [
        ("__0_0.distcp", "torch-dcp"),
        ("trainer_state.json", "hf-trainer"),
        ("mp_rank_00_model_states.pt", "deepspeed"),
        ("mp_rank_00/model_optim_rng.pt", "megatron"),
        ("manifest.ocdbt", "orbax"),
        ("epoch=1.ckpt", "lightning"),
        ("model.safetensors", "safetensors"),
        ("model.pt", "torch"),
        ("arrays.npz", "generic"),
    ],
)
def test_frameworks_are_told_by_their_files(name: str, framework: str) -> None:
    assert verdict(members(name)).framework == framework


def test_nothing_is_no_checkpoint() -> None:
    assert verdict([]).state is State.WRITING


NAMES = st.sampled_from([*PAIR, "trainer_state.json", "__0_0.distcp", ".metadata", "x.tmp", "a-00001-of-00002.bin"])
MEMBER = st.builds(
    Member,
    path=NAMES.map("run/checkpoint-7/{}".format),
    settled=st.booleans(),
    defect=st.sampled_from([None, "cut short"]),
    changed_at=st.floats(0, 2 * NOW),
)


@given(st.lists(MEMBER, max_size=6, unique_by=lambda member: member.path), st.booleans())
def test_what_is_complete_has_neither_open_nor_broken_files_and_waiting_ends(found: list[Member], known: bool) -> None:
    previous = names_of(members(*PAIR, step=6)) if known else None
    said = judge(found, now=NOW, settle_s=SETTLE, previous=previous)
    if said.state is State.COMPLETE:
        assert all(member.settled for member in found)
        assert not any(member.defect for member in found if not member.path.endswith(".tmp"))
    if said.state is State.WRITING and found and all(member.settled for member in found):
        assert said.wake_at is not None
        assert NOW < said.wake_at <= NOW + SETTLE
        later = judge(found, now=said.wake_at, settle_s=SETTLE, previous=previous)
        if all(member.changed_at <= NOW for member in found):
            assert later.state is not State.WRITING


def test_a_marker_that_was_written_after_the_clock_went_back_counts() -> None:
    day = 86400.0
    files = [Member(f"run/step-1/{name}", True, None, 1000.0 + day) for name in ("a.bin", "b.bin")]
    marker = Member("run/step-1/DONE", True, None, 1000.5)
    verdict = judge([*files, marker], now=1001.0, settle_s=2.0, previous=None)
    assert verdict.state is State.COMPLETE


def test_where_a_pointer_comes_last_it_completes_and_mere_quiet_takes_longer() -> None:
    megatron = members("mp_rank_00/model_optim_rng.pt", at=NOW)
    assert judge(megatron, now=NOW, settle_s=SETTLE, previous=None, pointed=True).state is State.COMPLETE
    fresh = members("mp_rank_00_model_states.pt", at=NOW)
    named = judge(fresh, now=NOW, settle_s=SETTLE, previous=None, pointed=True)
    assert (named.state, named.wake_at) == (State.WRITING, NOW + SETTLE), "other ranks may still write"
    waiting = verdict(fresh, now=NOW + SETTLE)
    assert (waiting.state, waiting.wake_at) == (State.WRITING, NOW + 5 * SETTLE)
    assert verdict(fresh, now=NOW + 5 * SETTLE).state is State.COMPLETE
    halves = members("zero_pp_rank_0_mp_rank_00_optim_states.pt", at=NOW)
    assert judge(halves, now=NOW, settle_s=SETTLE, previous=None, pointed=True).state is not State.COMPLETE


@pytest.mark.parametrize(("before", "now"), [(0, 1), (1, 0), (3, 7), (7, 3), (2, 3)])
def test_files_that_are_numbered_by_themselves_are_not_named_by_the_step(before: int, now: int) -> None:
    names = [f"model-{number}.bin" for number in range(4)]
    assert verdict(members(*names, step=now), members(*names, step=before)).state is State.COMPLETE
    lacking = verdict(members(*names[:2], step=5), members(*names, step=4))
    way_out = "lacks model-2.bin, which the checkpoint before it has: if it is whole, touch run/checkpoint-5/.done"
    assert (lacking.state, lacking.reason) == (State.TORN, way_out)
    assert verdict(members(*names[:2], ".done", step=5), members(*names, step=4)).state is State.COMPLETE


def test_files_that_are_named_by_the_step_are_compared_without_it() -> None:
    assert verdict(members("model-7.bin", step=7), members("model-5.bin", step=5)).state is State.COMPLETE
    assert verdict(members("x.bin", step=7), members("model-5.bin", "x.bin", step=5)).state is State.TORN


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (("model_loss_0.53.bin", "opt.bin"), ("model_loss_0.4.bin", "opt.bin")),
        (("pytorch_model.bin", "config.json"), ("model.safetensors", "config.json")),
        (("model.bin", "events.out.tfevents.1700000000.a.1.0"), ("model.bin", "events.out.tfevents.1700000999.a.9.0")),
        (("model.bin", "samples/0.png", "train.log"), ("model.bin",)),
        (("model.bin", "log-2026-01-01.txt"), ("model.bin", "log-2026-01-02.txt")),
    ],
)
def test_other_files_in_the_places_of_those_before_are_no_reason_to_call_it_torn(
    before: tuple[str, ...], now: tuple[str, ...]
) -> None:
    assert verdict(members(*now, step=7), members(*before, step=5)).state is State.COMPLETE


@pytest.mark.parametrize("now", [("model_loss_0.4.bin",), ("model_loss_0.4.bin", "config.json"), ("opt.bin", "a.json")])
def test_a_small_file_takes_no_large_ones_place(now: tuple[str, ...]) -> None:
    assert verdict(members(*now, step=7), members("model_loss_0.53.bin", "opt.bin", step=5)).state is State.TORN


def test_what_is_added_after_the_commit_is_not_another_save() -> None:
    saved = members("model.safetensors", "trainer_state.json")
    weights = members("pytorch_model.bin", at=NOW - 50)
    assert judge(saved + weights, now=NOW, settle_s=SETTLE, previous=None).state is State.TORN
    added = members("pytorch_model.bin", at=NOW - 50, added=True)
    said = judge(saved + added, now=NOW, settle_s=SETTLE, previous=None, committed_at=NOW - 60)
    assert said.state is State.COMPLETE


def _ranks(number: int, name: str = "rng_state_{}.pth") -> list[str]:
    return [name.format(rank) for rank in range(number)]


def test_the_launcher_says_how_many_ranks_there_are_now() -> None:
    before = names_of(members("model.bin", *_ranks(8), step=5))
    for there, ranks, state in (
        (6, 6, State.COMPLETE),
        (5, 6, State.TORN),
        (6, None, State.TORN),
        (4, None, State.COMPLETE),
    ):
        found = members("model.bin", *_ranks(there), step=6)
        assert judge(found, now=NOW, settle_s=SETTLE, previous=before, ranks=ranks).state is state, (there, ranks)


def test_an_index_that_names_its_parts_says_how_many_ranks_there_are_now() -> None:
    before = members("model/.metadata", *_ranks(8, "model/__{}_0.distcp"), step=5)
    parts = _ranks(6, "model/__{}_0.distcp")
    index = members("model/.metadata", step=6, requires=frozenset(base.rpartition("/")[2] for base in parts))
    assert verdict(members(*parts, step=6) + index, before).state is State.COMPLETE
    assert verdict(members(*parts[:5], step=6) + index, before).state is State.TORN
    assert verdict(members("model/.metadata", *parts, step=6), before).state is State.TORN, "it names nothing"


def test_names_that_tell_the_number_of_ranks_are_believed_where_all_are_there() -> None:
    before = members("config.json", *_ranks(8, "model_world_size_8_rank_{}.pt"), step=5)
    now = members("config.json", *_ranks(6, "model_world_size_6_rank_{}.pt"), step=6)
    assert verdict(now, before).state is State.COMPLETE
    assert verdict(now[:-1], before).state is State.TORN


def test_weights_converted_before_the_commit_are_no_second_save() -> None:
    saved = ("model.safetensors", "optimizer.pt", "trainer_state.json")
    now = members(*saved, step=6) + members("pytorch_model.bin", step=6, at=NOW - 50)
    assert verdict(now, members(*saved, step=5)).state is State.COMPLETE
    again = members(*saved, step=6) + members("pytorch_model.bin", step=6, at=NOW - 50)
    again[0] = members("model.safetensors", step=6, at=NOW - 60)[0]
    said = verdict(again, members(*saved, step=5))
    assert said.state is State.TORN
    assert "touch run/checkpoint-6/.done" in said.reason
    assert verdict(now).state is State.TORN, "nothing says what a save is"
