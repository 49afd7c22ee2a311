"""Names under which something is written that gets its real name later, and names that are written last."""

from __future__ import annotations

import re
from functools import lru_cache

from ckptd.layouts.frameworks import MARKERS
from ckptd.layouts.patterns import active
from ckptd.layouts.steps import is_only_a_step

_ANSWERS = 1 << 12
"""Answers kept, by name: the files of a checkpoint have the names of the one before. `location.configure` forgets them."""

_KEPT = frozenset({
    ".zarray", ".zgroup", ".zattrs", ".zmetadata",  # Zarr: Orbax without OCDBT, Megatron
    ".metadata.json", ".is_checkpoint", ".tune_metadata",  # Ray
    ".gitattributes", ".gitignore", ".hydra",
})  # fmt: skip
"""Names with a dot that are meant to stay."""

UNFINISHED = re.compile(r"(?P<name>.+)[-.]unfinished")
"""NeMo: stands beside a checkpoint while it is saved, and is empty."""

_HINT = re.compile(r"te?mp|part|incomplete|inprogress|lock|unfinished|~$", re.IGNORECASE)
"""In all that the others below match: a checkpoint may have 100,000 files, and most names have nothing of it."""
_WORD = re.compile(r"(?:^|[-_.])tmp(?=[-_.]|\d*$)", re.IGNORECASE)
_MKSTEMP = re.compile(r"tmp[a-z0-9_]{8}")  # Python's tempfile
_SUFFIX = re.compile(r"(?:\.(?:part|partial|incomplete|inprogress|temp|lock-tmp|__lock)|~)$", re.IGNORECASE)
_SUFFIX_WORD = re.compile(r"[-_.](?:orbax-checkpoint-)?tmp(?:[-_.]?\w*)*$", re.IGNORECASE)
_PREFIX = re.compile(r"^\.?tmp[-_.]", re.IGNORECASE)
_TENSORFLOW = re.compile(  # a bundle's shards before they are merged, its index, and the `checkpoint` file
    r"(?P<dir>.+-\d+)_temp(?:_[0-9a-f]{32})?|(?P<bundle>.+)\.tempstate\d+|(?P<state>.+)\.tmp[0-9a-f]{32}", re.ASCII
)


@lru_cache(maxsize=_ANSWERS)
def is_temporary(name: str) -> bool:
    """For one component of a path."""
    if any(pattern.is_temporary(name) for pattern in active()):
        return True
    if name.startswith("."):
        return name not in MARKERS and name not in _KEPT
    if not _HINT.search(name):
        return False
    return bool(
        _WORD.search(name)
        or _SUFFIX.search(name)
        or _MKSTEMP.fullmatch(name)
        or _TENSORFLOW.fullmatch(name)
        or UNFINISHED.fullmatch(name)
    )


@lru_cache(maxsize=_ANSWERS)
def is_temporary_run(name: str) -> bool:
    """For the first directory: a user may well call a run `tmp_test`, and means it to be kept."""
    if not is_temporary(name):
        return False
    if _TENSORFLOW.fullmatch(name) or UNFINISHED.fullmatch(name):
        return is_only_a_step(final_name(name))
    return name.startswith(".") or not _PREFIX.match(name) or is_only_a_step(final_name(name))


@lru_cache(maxsize=_ANSWERS)
def final_name(name: str) -> str:
    """What a temporary name will become: `model.pt.tmp` → `model.pt`, `tmp-checkpoint-5` → `checkpoint-5`."""
    if not is_temporary(name):
        return name
    for pattern in active():
        if pattern.is_temporary(name):
            return pattern.final_name(name)
    if found := _TENSORFLOW.fullmatch(name) or UNFINISHED.fullmatch(name):
        return next(text for text in found.groups() if text is not None)
    bare = _PREFIX.sub("", name)
    bare = _SUFFIX.sub("", _SUFFIX_WORD.sub("", bare))
    return bare.removeprefix(".") or name
