import pytest

from ckptd.layouts.pointers import POINTER_LIMIT, pointed_step, step_of_link


@pytest.mark.parametrize(
    ("name", "text", "step"),
    [
        ("latest", b"global_step1200", 1200),
        ("latest", b"global_step1200\n", 1200),
        ("latest_universal", b"global_step7_universal", 7),
        ("latest", b"checkpoints/step_40/", 40),
        ("latest_checkpointed_iteration.txt", b"1200", 1200),
        ("latest_checkpointed_iteration.txt", b"release", None),
        ("checkpoint", b'model_checkpoint_path: "ckpt-3"\nall_model_checkpoint_paths: "ckpt-2"\n', 3),
        ("checkpoint", b'all_model_checkpoint_paths: "ckpt-9"\nmodel_checkpoint_path: "/data/run/ckpt-3"\n', 3),
        ("checkpoint", b"5", None),
        ("last_checkpoint", b"model_0004999.pth", 4999),
        ("latest", b"", None),
        ("latest", b"\xff\xfe", None),
        ("latest", b"1\n2", None),
        ("latest", b"9" * 19, None),
        ("latest", b" " * (POINTER_LIMIT + 1) + b"1", None),
        ("notes.txt", b"5", None),
    ],
)
def test_what_a_pointer_says(name: str, text: bytes, step: int | None) -> None:
    assert pointed_step(name, text) == step


@pytest.mark.parametrize(
    ("path", "target", "step"),
    [
        ("run/best", "checkpoint-5", 5),
        ("run/best.ckpt", "epoch=3-step=1200.ckpt", 1200),
        ("run/ckpts/last.ckpt", "../ckpts/epoch=1-step=7.ckpt", 7),
        ("run/best", "7", 7),
        ("run/best", "../other/checkpoint-5", None),
        ("run/best", "../../checkpoint-5", None),
        ("run/best", "/data/checkpoint-5", None),
        ("run/best", "notes", None),
        ("best", "checkpoint-5", 5),
    ],
)
def test_where_a_link_leads(path: str, target: str, step: int | None) -> None:
    assert step_of_link(path, target) == step
