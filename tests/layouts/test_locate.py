"""Where a path belongs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptd.layouts import locate
from ckptd.layouts.names import kind_of
from ckptd.layouts.temporary import final_name


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("run-42/checkpoint-1200/model.safetensors", 1200),
        ("run-42/checkpoint_1200/a/b/c", 1200),
        ("run-42/ckpt-7/x", 7),
        ("run-42/step-10/x", 10),
        ("run-42/step_10/x", 10),
        ("run-42/step10/x", 10),
        ("run-42/global_step100/mp_rank_00_model_states.pt", 100),
        ("run-42/iter_0001000/mp_rank_00/model_optim_rng.pt", 1000),
        ("run-42/epoch=3-step=1200/x", 1200),
        ("run-42/epoch-4/m.pt", 4),
        ("run-42/epoch_4/step_90/m.pt", 90),
        ("run-42/1200/_CHECKPOINT_METADATA", 1200),
        ("run-42/checkpoints/1200/default/manifest.ocdbt", 1200),
        ("run-42/checkpoint-100/global_step99/x", 100),
        ("run-42/model-1200.pt", 1200),
        ("run-42/step_1200.safetensors", 1200),
        ("run-42/epoch=3-step=1200.ckpt", 1200),
        ("run-42/epoch=3-step=1200-v1.ckpt", 1200),
        ("run-42/epoch=3-val_loss=0.25.ckpt", 3),
        ("run-42/ckpt_100.pth", 100),
        ("run-42/ckpt_100.pth.tar", 100),
        ("run-42/step_100.tar", 100),
        ("run-42/model-1200-00001-of-00003.safetensors", 1200),
        ("run-42/model.ckpt-1200.data-00000-of-00001", 1200),
        ("run-42/sub/model-5.npz", 5),
    ],
)
def test_steps_are_found_in_names(path: str, step: int) -> None:
    assert (locate(path).run, locate(path).step) == ("run-42", step)
    assert not locate(path).temporary


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "notes-12.txt", "events.out.tfevents.1699999.host", "best.pt", "resnet50.pt", "rng_state_0.pth",
        "optimizer_rank_3.pt", "model-00001-of-00003.safetensors", "last-v1.ckpt", "data/1200/x", "random_states_0.pkl",
        "model_v2.pt", "latest", "last.ckpt", ".pt",
    ],
)  # fmt: skip
def test_other_numbers_are_no_steps(name: str) -> None:
    assert locate(f"run-42/{name}").step is None


@pytest.mark.parametrize(
    ("path", "run"),
    [
        ("model-5.pt", "."),
        ("notes.txt", "."),
        ("checkpoint-500/model.pt", "."),
        ("tmp-checkpoint-500/model.pt", "."),
        ("llama-step-5/model.pt", "llama-step-5"),
        ("20260101/model.pt", "20260101"),
        ("tmp_test/checkpoint-1/x", "tmp_test"),
    ],
)
def test_the_run_is_the_first_directory_unless_that_is_a_step(path: str, run: str) -> None:
    assert locate(path).run == run


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("r/tmp-checkpoint-100/model.safetensors", 100),
        ("r/checkpoint-100.tmp/model.safetensors", 100),
        ("r/global_step5.tmp/x", 5),
        ("r/1200.orbax-checkpoint-tmp-1234/foo", 1200),
        ("r/checkpoint-100/.metadata.tmp", 100),
        ("r/checkpoint-100/__0_0.distcp.tmp", 100),
        ("r/checkpoint-100/.model.safetensors.Xy12", 100),
        ("r/model-1200.pt.tmp", 1200),
        ("r/model-1200.tmp.pt", None),
        ("r/model-1200.pt.tmp.4711", 1200),
        ("r/model.pt.part", None),
        ("r/model.pt.partial", None),
        ("r/model.pt.incomplete", None),
        ("r/model.pt~", None),
        ("r/tmpab12cd34", None),
        (".cache/model-3.pt", 3),
        ("tmp-checkpoint-500/model.pt", 500),
    ],
)
def test_temporary_names_are_known_with_the_step_they_will_have(path: str, step: int | None) -> None:
    found = locate(path)
    assert found.temporary
    if step is not None:
        assert found.step == step


@pytest.mark.parametrize(
    "path",
    [
        "r/checkpoint-1/.metadata", "r/checkpoint-1/.done", "r/checkpoint-1/.COMPLETE", "r/tmpfs.bin",
        "r/temp-0.7.json",        "r/attempt-1/x.pt", "tmp_test/x.pt", "r/model.part1.safetensors",
    ],
)  # fmt: skip
def test_names_that_only_look_temporary_are_kept(path: str) -> None:
    assert not locate(path).temporary


@pytest.mark.parametrize(
    "name", ["trainer_state.json", ".metadata", "latest", "latest_checkpointed_iteration.txt", "checkpoint", "_SUCCESS"]
)
def test_markers_and_pointers_go_last(name: str) -> None:
    assert locate(f"r/checkpoint-1/{name}").last
    assert not locate("r/checkpoint-1/model.safetensors").last


def test_a_temporary_name_tells_the_final_one() -> None:
    names = ["model.pt.tmp", "model.pt.tmp.4711", "tmp-checkpoint-5", "5.orbax-checkpoint-tmp-77", "a.pt.part", "a.pt~"]
    finals = ["model.pt", "model.pt", "checkpoint-5", "5", "a.pt", "a.pt"]
    assert [final_name(name) for name in names] == finals
    assert final_name("model.pt") == "model.pt"


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), min_size=1, max_size=5))
def test_every_path_has_a_place(parts: list[str]) -> None:
    path = "/".join(parts)
    found = locate(path)
    assert found.run == "." or found.run == parts[0]
    assert found.step is None or 0 <= found.step < 10**18


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("run/checkpoint-5/model.bin", "run/checkpoint-600/sub/optimizer.bin", True),
        ("run/checkpoint-5/model.bin", "run/checkpoint-5", True),
        ("run/step_6.pt", "run/step_70.pt", True),
        ("run/checkpoint-5/model.bin", "run/step_5.pt", False),
        ("run/checkpoint-5/model.bin", "run/global_step5/model.bin", False),
        ("run/a/checkpoint-5/x", "run/b/checkpoint-5/x", False),
    ],
)
def test_checkpoints_of_one_kind(one: str, other: str, same: bool) -> None:
    assert (kind_of(one) == kind_of(other)) is same
