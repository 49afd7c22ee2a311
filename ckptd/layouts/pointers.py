"""Which step a pointer names: a small file (`latest`) or a symbolic link (`best.ckpt`) beside a run's checkpoints."""

from __future__ import annotations

import json
import posixpath
import re

from ckptd.layouts.frameworks import LAYOUTS, POINTERS
from ckptd.layouts.location import place_of
from ckptd.layouts.steps import step_of_directory, step_of_file

POINTER_LIMIT = 64 * 1024
"""Bytes. A larger file of a pointer's name is a checkpoint itself (Lightning's `last.ckpt`). TensorFlow's lists every path
that it keeps.
"""

_TENSORFLOW = re.compile(r'^\s*model_checkpoint_path:\s*"(?P<path>[^"\n]*)"', re.MULTILINE)
_LONGEST = 4096  # a path


def pointed_step(name: str, text: bytes) -> int | None:
    """`name` is the file's own. None for what is no pointer or names no step (Megatron's `release`).

    DeepSpeed's `latest` has the directory's name, Megatron's latest_checkpointed_iteration.txt the number, TensorFlow's
    `checkpoint` a protobuf text with a path, Ray Train's checkpoint_manager_snapshot.json a list of directories.
    """
    if name not in POINTERS or len(text) > POINTER_LIMIT:
        return None
    try:
        said = text.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    if name.endswith(".json"):
        return _of_ray(said)
    if name == "checkpoint":
        found = _TENSORFLOW.search(said)
        said = found["path"] if found else ""
    return None if len(said) > _LONGEST or "\n" in said else _step_of(posixpath.basename(said.rstrip("/")))


def step_of_link(path: str, target: str) -> int | None:
    """`path` of a symbolic link relative to the volume, and what it leads to: `run/best -> checkpoint-5` is 5 of `run`.

    None where it leads out of the run, or to no step.
    """
    leads_to = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if target.startswith("/") or leads_to.startswith(".."):
        return None
    found = place_of(leads_to)
    if found.step is None:  # the directory itself, not a file in it
        found = place_of(f"{leads_to}/-")
    return found.step if found.run == place_of(path).run else None


def _step_of(name: str) -> int | None:
    if re.fullmatch(r"[0-9]{1,18}", name):
        return int(name)
    found = (
        step_of_directory(name),
        step_of_file(name),
        step_of_file(f"{name}.index"),
    )  # the last: TensorFlow's prefix
    return next((step for step in found if step is not None), None)


def _of_ray(text: str) -> int | None:
    """The newest of those that are kept, in the order of their making (ray/train/v2, `CheckpointManager`)."""
    try:
        names = [result["checkpoint_dir_name"] for result in json.loads(text)["checkpoint_results"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    steps = (step_of_directory(name) for name in names if isinstance(name, str))
    return max((step for step in steps if step is not None), default=None)


def pointers_beside(framework: str) -> tuple[str, ...]:
    """The pointer files that a restart looks for in the directory in which the framework's checkpoints lie."""
    layout = next((layout for layout in LAYOUTS if layout.name == framework), None)
    text_files = sorted(name for name in layout.pointers if not name.endswith(_WEIGHTS)) if layout else []
    return tuple(text_files) or ("latest",)


_WEIGHTS = (".ckpt", ".pt", ".pth")
"""Lightning's `last.ckpt` is a checkpoint itself, or a link to one."""
