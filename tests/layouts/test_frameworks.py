"""What each framework requires, as tables; odd steps, names and mixtures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptd.domain.model import CheckpointState as State
from ckptd.layouts import Member, Verdict, judge, locate, names_of

NOW = 1000.0
HASH = "0123456789abcdef0123456789abcdef"


def verdict(*paths: str, fresh: bool = False) -> Verdict:
    found = [Member(path, True, None, NOW if fresh else 0.0) for path in paths]
    return judge(found, now=NOW, settle_s=2.0, previous=None)


def under(directory: str, *names: str) -> list[str]:
    return [f"{directory}/{name}" for name in names]


def optimizer(dp: int, mp: int = 0) -> str:
    return f"zero_pp_rank_{dp}_mp_rank_{mp:02d}_optim_states.pt"


def model(mp: int) -> str:
    return f"mp_rank_{mp:02d}_model_states.pt"


DIST = ("common.pt", "__0_0.distcp", ".metadata", "metadata.json")
UNIVERSAL = ("zero/w/fp32.pt", "zero/w/exp_avg.pt", "zero/b/fp32.pt", model(0))


@pytest.mark.parametrize(
    ("framework", "directory", "names"),
    [
        ("deepspeed", "r/global_step5", [model(0), optimizer(0), optimizer(1)]),
        ("deepspeed", "r/global_step5", [model(0), model(1), *(optimizer(d, m) for d in (0, 1) for m in (0, 1))]),
        ("deepspeed", "r/global_step5", [model(0)]),
        ("deepspeed", "r/global_step5", ["layer_00-model_00-model_states.pt", "bf16_" + optimizer(0)]),
        ("deepspeed-universal", "r/global_step5_universal", UNIVERSAL),
        ("megatron", "r/iter_0000005", ["mp_rank_00/model_optim_rng.pt", "mp_rank_01/model_optim_rng.pt"]),
        ("megatron", "r/iter_0000005", [f"mp_rank_0{t}_00{p}/model_optim_rng.pt" for t in (0, 1) for p in (0, 1, 2)]),
        ("megatron-dist", "r/iter_0000005", DIST),
        ("nemo", "r/checkpoints/m--val_loss=1.50-step=5-last", [*under("weights", *DIST), "context/io.json"]),
        ("orbax", "r/5", ["_CHECKPOINT_METADATA", "default/manifest.ocdbt", f"default/ocdbt.process_0/d/{HASH}"]),
        ("tensorflow", "r", ["ckpt-5.index", "ckpt-5.data-00000-of-00002", "ckpt-5.data-00001-of-00002"]),
        ("accelerate", "r/checkpoints/checkpoint_5", ["model.safetensors", "optimizer.bin", "random_states_0.pkl"]),
        (
            "hf-trainer",
            "r/checkpoint-5",
            ["model.safetensors", "optimizer.pt", "training_args.bin", "trainer_state.json"],
        ),
        ("lightning", "r/epoch=0-step=5.ckpt", [".metadata", "__0_0.distcp", "meta.pt"]),
        ("lightning", "r/epoch=0-step=5.ckpt", [f"checkpoint/{model(0)}", "latest", "zero_to_fp32.py"]),
        ("ray-train", "r/trial_1/checkpoint_000005", ["state.pt", ".metadata.json"]),
        ("keras", "r", ["model-5.keras"]),
        ("flax", "r", ["checkpoint_5"]),
    ],
)
def test_each_whole_one_is_recognised_and_complete_and_lacks_any_file_that_is_required(
    framework: str, directory: str, names: list[str]
) -> None:
    found = verdict(*under(directory, *names))
    assert (found.state, found.reason, found.framework) == (State.COMPLETE, "", framework)
    assert all(locate(path).step == 5 for path in under(directory, *names))


@pytest.mark.parametrize(
    ("directory", "names", "lacks"),
    [
        ("r/global_step5", [model(0), optimizer(1)], optimizer(0)),
        ("r/global_step5", [model(0), optimizer(0), optimizer(2)], optimizer(1)),
        ("r/global_step5", [model(1), optimizer(0), optimizer(0, 1)], model(0)),
        ("r/global_step5", [optimizer(0)], model(0)),
        ("r/global_step5", ["zero_pp_rank_0_mp_rank_00_model_states.pt"], optimizer(0)),
        ("r/global_step5_universal", UNIVERSAL[1:], "zero/w/fp32.pt"),
        ("r/global_step5_universal", UNIVERSAL[:3], model(0)),
        ("r/iter_0000005", ["mp_rank_01/model_optim_rng.pt"], "mp_rank_00/model_optim_rng.pt"),
        ("r/iter_0000005", [f"mp_rank_0{t}_00{t}/model_optim_rng.pt" for t in (0, 1)], "mp_rank_00_001/model_optim_rng.pt"),
        ("r/iter_0000005", ["mp_rank_00/model_optim_rng.pt", "mp_rank_00/distrib_optim.pt", "mp_rank_01/model_optim_rng.pt"],
         "mp_rank_01/distrib_optim.pt"),
        ("r/iter_0000005", DIST[:3], "metadata.json"),
        ("r/iter_0000005", (*DIST[:2], DIST[3]), ".metadata"),
        ("r/checkpoints/m-step=5-last", under("weights", *DIST[:3]), "weights/metadata.json"),
        ("r/5", [f"default/ocdbt.process_0/d/{HASH}"], "default/manifest.ocdbt"),
        ("r/5", ["_METADATA", f"d/{HASH}"], "manifest.ocdbt"),
        ("r", ["ckpt-5.data-00000-of-00001"], "ckpt-5.index"),
        ("r", ["ckpt-5.index", "ckpt-5.data-00000-of-00002"], "ckpt-5.data-00001-of-00002"),
        ("r/checkpoint-5", ["model.safetensors", "optimizer.pt", "training_args.bin"], "trainer_state.json"),
        ("r/epoch=0-step=5.ckpt", [".metadata", "__0_0.distcp"], "meta.pt"),
        ("r/epoch=0-step=5.ckpt", [f"checkpoint/{model(0)}"], "latest"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(directory: str, names: list[str], lacks: str) -> None:
    found = verdict(*under(directory, *names))
    assert (found.state, found.reason) == (State.TORN, f"lacks {lacks}")
    assert verdict(*under(directory, *names), fresh=True).state is State.WRITING


@pytest.mark.parametrize("marker", ["_CHECKPOINT_METADATA", "commit_success.txt"])
def test_orbax_is_complete_at_once_with_a_marker(marker: str) -> None:
    assert verdict("r/5/default/manifest.ocdbt", f"r/5/{marker}", fresh=True).state is State.COMPLETE
    assert verdict("r/5/default/manifest.ocdbt", f"r/5/default/{marker}", fresh=True).state is State.WRITING


def test_a_pointer_inside_is_no_marker_because_other_ranks_may_still_write() -> None:
    files = under("r/epoch=0-step=5.ckpt", f"checkpoint/{model(0)}", "latest")
    assert verdict(*files, fresh=True).state is State.WRITING


def test_nemos_marker_of_an_unfinished_save_holds_it_until_it_is_gone() -> None:
    name = "r/checkpoints/m--val_loss=1.50-step=5-last"
    whole = under(name, *under("weights", *DIST))
    assert locate(f"{name}-unfinished").step == 5
    assert locate(f"{name}-unfinished").temporary
    held = verdict(*whole, f"{name}-unfinished")
    assert (held.state, held.root) == (State.TORN, name)
    assert "unfinished" in held.reason
    assert verdict(*whole).state is State.COMPLETE


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("r/ckpt-7_temp/part-00000-of-00001.index", 7),
        (f"r/ckpt-7_temp_{HASH}/part-00000-of-00001.index", 7),
        ("r/ckpt-7.index.tempstate1234", 7),
        (f"r/checkpoint.tmp{HASH}", None),
        ("r/7/default/manifest.ocdbt.__lock", 7),
        ("r/7.orbax-checkpoint-tmp/default.orbax-checkpoint-tmp/_METADATA", 7),
        ("r/global_step7_universal/tmp/w/0/fp32.00", 7),
        ("r/m-step=7.nemo-unfinished", 7),
    ],
)
def test_temporary_names_of_frameworks(path: str, step: int | None) -> None:
    assert (locate(path).temporary, locate(path).step) == (True, step)


@pytest.mark.parametrize("run", ["exp-1_temp", "model-unfinished", "träger-😀", "run 1", "実験"])
def test_runs_may_have_any_name(run: str) -> None:
    found = locate(f"{run}/checkpoint-5/größe.bin")
    assert (found.run, found.step, found.temporary) == (run, 5, False)


def test_steps_may_have_18_digits_and_not_one_more() -> None:
    for name in ("checkpoint-{}/x.bin", "model-{}.pt", "{}/x.bin", "checkpoint_{}"):
        assert locate("r/" + name.format("9" * 18)).step == 10**18 - 1
        assert locate("r/" + name.format("9" * 19)).step is None


@pytest.mark.parametrize("digits", ["²", "١٢", "Ⅷ", "１２"])
def test_digits_of_other_scripts_are_no_steps_and_no_harm(digits: str) -> None:
    for path in (f"r/checkpoint-{digits}/x.bin", f"r/checkpoint-5/{digits}", f"r/{digits}/x.bin", f"r/m-{digits}.pt"):
        names_of([Member(path, True, None, 0.0)])
        assert locate(path).step in {None, 5}


def test_a_checkpoint_of_no_files_is_never_complete() -> None:
    assert verdict().state is State.WRITING


def test_two_frameworks_in_one_run_are_told_apart_by_their_steps() -> None:
    trainer = under("r/checkpoint-5", "model.safetensors", "trainer_state.json")
    assert verdict(*trainer, fresh=True).framework == "hf-trainer"
    assert verdict("r/epoch=0-step=6.ckpt").framework == "lightning"


def test_two_frameworks_at_one_step_wait_for_each_other() -> None:
    trainer = under("r/checkpoint-5", "model.safetensors", "trainer_state.json")
    both = verdict(*trainer, "r/epoch=0-step=5.ckpt", fresh=True)
    assert (both.state, both.root) == (State.WRITING, "r")
    assert verdict(*trainer, "r/epoch=0-step=5.ckpt").state is State.COMPLETE


PARTS = st.sampled_from(
    ["checkpoint-5", "5", "²", "ocdbt.process_0", "d", HASH, "zero", "weights", "mp_rank_00_9", "x"]
)
FILES = st.sampled_from(
    [model(0), optimizer(10**9), "common.pt", ".metadata", "a.distcp", "ckpt-5.index", "d", "mp_rank_99999999999"]
)


@given(st.lists(st.tuples(st.lists(PARTS, max_size=3), FILES), max_size=8))
def test_any_mixture_gets_a_verdict(found: list[tuple[list[str], str]]) -> None:
    verdict(*{"/".join(["r", "checkpoint-5", *parts, name]) for parts, name in found})
