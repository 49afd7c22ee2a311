"""Step numbers in the names of directories and files."""

from __future__ import annotations

import re
from functools import lru_cache

_ANSWERS = 1 << 12
"""Answers kept, by name: the files of a checkpoint have the names of the one before."""

_WORDS = r"checkpoint|ckpt|chkpt|global[-_]?step|step|iteration|iter"
_DIRECTORY = re.compile(rf"(?:.*[-_.=])?(?:{_WORDS})[-_=.]?(\d+)", re.IGNORECASE | re.ASCII)
_STEP_FIELD = re.compile(
    r"(?:^|[-_.,])(?:global_?)?(?:step|iter(?:ation)?)s?[-_=]?(\d+)(?=$|[-_.,])", re.IGNORECASE | re.ASCII
)
_ONLY_A_STEP = re.compile(rf"(?:{_WORDS}|epoch)[-_=.]?\d{{1,18}}", re.IGNORECASE | re.ASCII)
_EPOCH = re.compile(r"(?:.*[-_.=])?(?:epoch|ep)[-_=]?(\d+)(?=$|[-_.,])", re.IGNORECASE | re.ASCII)
_PLAIN = re.compile(r"[0-9]{1,18}")
_HOLDS_STEPS = re.compile(r"(?:checkpoint|ckpt|model|weight|save|snapshot|state|step)s?", re.IGNORECASE | re.ASCII)

EXTENSIONS = (
    ".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".npz", ".npy", ".pkl", ".pickle", ".h5", ".hdf5", ".keras",
    ".msgpack", ".tar", ".pt.tar", ".pth.tar", ".weights.h5", ".weights.json", ".eqx", ".zip", ".nemo", ".gguf",
)  # fmt: skip
"""Of files that hold a whole checkpoint, or a part of one whose name carries the step."""

_SHARD = re.compile(r"[-_.](?:\d+-of-\d+|rank[-_]?\d+|shard[-_]?\d+)$", re.IGNORECASE | re.ASCII)
_VERSION = re.compile(r"-v[0-9]+$")  # Lightning: a name that was taken
_TENSORFLOW = re.compile(
    r"(.*ckpt-[0-9]+|.*(?=\.ckpt))(?:\.ckpt)?\.(?:index|meta|data-[0-9]+-of-[0-9]+)(?:\.tempstate[0-9]+)?"
)
_FLAX = re.compile(r"checkpoint_[0-9]{1,18}")
_RAY = re.compile(r"checkpoint_(\d{4})-(\d\d)-(\d\d)_(\d\d)-(\d\d)-(\d\d)(?:\.(\d{1,3})\d*)?", re.ASCII)
_NUMBERED = re.compile(r"(.*?)[-_=]([0-9]{1,18})")
_NOT_A_STEP = re.compile(
    r"(?:.*[-_.])?(?:rank|rng|rng_states?|random_states?|shard|part|worker|gpu|device|node|proc|process|[dtpm]p|seed|version|fold|layer"
    r"|expert|stage|chunk|split|bucket|group|of|v|zero_pp|best|top|k|size)",
    re.IGNORECASE | re.ASCII,
)


@lru_cache(maxsize=_ANSWERS)
def step_of_directory(name: str) -> int | None:
    """`checkpoint-1200`, `global_step1200`, `iter_0001200`, `epoch=3-step=1200`, `epoch-3`; not plain numbers.

    `checkpoint_2026-03-11_15-20-11.123456` (Ray Train) is the step 20260311152011123: its time, to the millisecond.
    """
    if dated := _RAY.fullmatch(name):
        return int("".join(dated.groups()[:6]) + (dated[7] or "").ljust(3, "0"))
    field = _STEP_FIELD.search(name)
    found = field or _DIRECTORY.fullmatch(name) or _EPOCH.fullmatch(name)
    return int(found[1]) if found and len(found[1]) <= 18 else None


def is_only_a_step(name: str) -> bool:
    """Whether a directory is named by its step and nothing else; `llama-step-5` may well be a run."""
    return _ONLY_A_STEP.fullmatch(name) is not None


def step_of_plain_directory(name: str, above: str | None) -> int | None:
    """`1200` directly in a run (`above` None) or in one like `checkpoints`; elsewhere a number may be anything."""
    if _PLAIN.fullmatch(name) and (above is None or _HOLDS_STEPS.fullmatch(above)):
        return int(name)
    return None


def stem_of(name: str) -> str | None:
    """The part of a file's name that may carry a step; None for files that are no checkpoints by their extension."""
    tensorflow = _TENSORFLOW.fullmatch(name)
    if tensorflow:
        return tensorflow[1]
    if _FLAX.fullmatch(name):
        return name
    lower = name.lower()
    extension = max((found for found in EXTENSIONS if lower.endswith(found)), key=len, default="")
    if not extension or len(extension) == len(name):
        return None
    return _VERSION.sub("", _SHARD.sub("", name[: -len(extension)]))


@lru_cache(maxsize=_ANSWERS)
def step_of_file(name: str) -> int | None:
    """`model-1200.pt`, `step_1200.safetensors`, `epoch=3-step=1200.ckpt`, `1200.npz`; not `rng_state_0.pth`."""
    stem = stem_of(name)
    if stem is None:
        return None
    step = step_of_directory(stem)
    if step is not None:
        return step
    epoch = _EPOCH.match(stem)
    if epoch:
        return int(epoch[1])
    if _PLAIN.fullmatch(stem):
        return int(stem)
    numbered = _NUMBERED.fullmatch(stem)
    if numbered and not _NOT_A_STEP.fullmatch(numbered[1]):
        return int(numbered[2])
    return None
