"""Which policy holds for a run: the volume's settings, then every matching pattern, the most specific last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from ckptd.domain.errors import UsageError
from ckptd.engine.volume import Volume
from ckptd.policy.policy import Fsync, Policy, Sync
from ckptd.settings.quantities import parse_time

KEYS = ("keep_hot", "keep_nvme", "keep_remote", "keep_every", "sync", "settle", "nodes", "fsync")
"""As in `[volumes.policy]`."""


def specificity(pattern: str) -> tuple[int, int, str]:
    """Literal characters count; an exact name beats every pattern."""
    wild = any(char in pattern for char in "*?[")
    return (0 if wild else 1, sum(char not in "*?[]" for char in pattern), pattern)


def matching(patterns: Mapping[str, Mapping[str, str]], run: str) -> list[str]:
    """Least specific first."""
    return sorted((pattern for pattern in patterns if fnmatchcase(run, pattern)), key=specificity)


def effective(base: Policy, patterns: Mapping[str, Mapping[str, str]], run: str) -> Policy:
    policy = base
    for pattern in matching(patterns, run):
        policy = replace(
            policy, **{_FIELD.get(key, key): parse(key, value) for key, value in patterns[pattern].items()}
        )
    return policy


def parse(key: str, value: str) -> Any:
    """A setting's value from its text. Raises UsageError naming key and value."""
    try:
        if key == "sync":
            return Sync(value)
        if key == "fsync":
            return Fsync(value)
        if key == "settle":
            return parse_time(value)
        if key in KEYS:
            return _count(value)
    except ValueError as error:
        raise UsageError(
            f"policy key {key}: {value!r} does not work: {error}", hint=_HINTS.get(key, "a number, 0 or more")
        ) from error
    raise UsageError(f"there is no policy key '{key}'", hint=f"the keys are {', '.join(KEYS)}")


def _count(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError("must not be negative")
    return number


def texts(policy: Policy) -> dict[str, str]:
    return {
        "keep_hot": str(policy.keep_hot),
        "keep_nvme": str(policy.keep_nvme),
        "keep_remote": str(policy.keep_remote),
        "keep_every": str(policy.keep_every),
        "sync": str(policy.sync),
        "settle": f"{policy.settle_s:g}s",
        "nodes": str(policy.nodes),
        "fsync": str(policy.fsync),
    }


def refuse_unheard(volume: Volume, values: Mapping[str, str]) -> None:
    """Raises UsageError for what cannot be kept where the job writes into a plain directory: nobody hears its fsync."""
    if values.get("fsync") == Fsync.REMOTE and not volume.front.is_mount:
        raise UsageError(
            f"fsync=remote needs a mounted volume, and {volume.name} is watched",
            hint='front = "mount" (as root), or ckptctl flush where the job wants to wait',
        )


def any_remote_fsync(base: Policy, patterns: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether `fsync = remote` may hold for a run."""
    return Fsync.REMOTE in {base.fsync, *(values.get("fsync") for values in patterns.values())}


_FIELD = {"settle": "settle_s"}
_HINTS = {"sync": "all or latest", "settle": "a time such as 2s or 500ms", "fsync": "local or remote"}
