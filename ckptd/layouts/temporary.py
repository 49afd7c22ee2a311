"""Names under which something is written that gets its real name later, and names that are written last."""

from __future__ import annotations

import re

from ckptd.layouts.steps import is_only_a_step

MARKERS = frozenset({
    ".metadata", "trainer_state.json", "_CHECKPOINT_METADATA", "commit_success.txt", "_SUCCESS", "COMPLETE", "DONE",
    "SUCCESS", ".complete", ".done", ".success", ".COMPLETE", ".DONE", ".SUCCESS",
})  # fmt: skip
"""Written into a checkpoint's directory when all else is there."""

POINTERS = frozenset({
    "latest", "latest_checkpointed_iteration.txt", "latest_step.txt", "latest.txt", "checkpoint", "last.ckpt",
    "last_checkpoint", "latest_universal",
})  # fmt: skip
"""Written beside the checkpoints, and naming the newest."""

_WORD = re.compile(r"(?:^|[-_.])tmp(?=[-_.]|\d*$)", re.IGNORECASE)
_MKSTEMP = re.compile(r"tmp[a-z0-9_]{8}")  # Python's tempfile
_SUFFIX = re.compile(r"(?:\.(?:part|partial|incomplete|inprogress|temp|lock-tmp)|~)$", re.IGNORECASE)
_SUFFIX_WORD = re.compile(r"[-_.](?:orbax-checkpoint-)?tmp(?:[-_.]?\w*)*$", re.IGNORECASE)
_PREFIX = re.compile(r"^\.?tmp[-_.]", re.IGNORECASE)


def is_temporary(name: str) -> bool:
    """For one component of a path."""
    if name.startswith("."):
        return name not in MARKERS
    return bool(_WORD.search(name) or _SUFFIX.search(name) or _MKSTEMP.fullmatch(name))


def is_temporary_run(name: str) -> bool:
    """For the first directory: a user may well call a run `tmp_test`, and means it to be kept."""
    if not is_temporary(name):
        return False
    return name.startswith(".") or not _PREFIX.match(name) or is_only_a_step(final_name(name))


def final_name(name: str) -> str:
    """What a temporary name will become: `model.pt.tmp` → `model.pt`, `tmp-checkpoint-5` → `checkpoint-5`."""
    if not is_temporary(name):
        return name
    bare = _PREFIX.sub("", name)
    bare = _SUFFIX.sub("", _SUFFIX_WORD.sub("", bare))
    return bare.removeprefix(".") or name
