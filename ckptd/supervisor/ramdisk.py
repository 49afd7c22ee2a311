"""The RAM tier's own file system: a tmpfs with huge pages, mounted before the worker starts, given back when nothing needs it.

/dev/shm as distributions mount it has pages of 4 KiB; into huge ones the kernel writes several times as fast.
It is a mount of the machine, not of the daemon: whatever happens to the processes, the checkpoints in it stay.
"""

from __future__ import annotations

import contextlib
import os

from ckptd.domain.errors import ConfigError
from ckptd.domain.model import Place
from ckptd.fronts.mount import mounting, system
from ckptd.settings.models import TierSettings
from ckptd.tiers import dispensable
from ckptd.tiers.budget import memory_bytes, tier_budget
from ckptd.tiers.filesystem import mount_of

SOURCE = "ckptd-ram"
_SLACK = 8
"""The file system is larger than the budget by an eighth: budgets are kept by moving files away, which takes a moment."""


def ensure(tier: TierSettings) -> str:
    """Mounts it unless it is; returns why the tier is not a file system of its own, "" if it is. Raises ConfigError."""
    path = tier.path
    if is_ours(path):
        dispensable.unmark(path)
        return ""
    if os.path.isdir(path) and _holds_files(path):
        return f"{path} holds files of a watched volume: the RAM tier stays where it is"
    budget = tier_budget(Place.RAM, path, tier.budget)
    size = min(budget + budget // _SLACK, memory_bytes())
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        _mount(path, size)
    except OSError as error:
        raise ConfigError(
            f"tiers.ram.path: no tmpfs can be mounted at {path}: {error.strerror}",
            hint="set tiers.ram.path to a new directory on a local disk, or use --front watch",
        ) from error
    return ""


def is_ours(path: str) -> bool:
    mount = mount_of(path)
    return mount is not None and (mount.source, mount.point) == (SOURCE, os.path.realpath(path))


def give_back(path: str) -> str:
    """Unmounts it, if nothing in it is the only copy of anything. Returns why it stays; "" if it is gone (or never was ours)."""
    if not is_ours(path):
        return ""
    if not dispensable.is_marked(path):
        return f"{path} keeps what is not durable yet"
    try:
        system.umount2(os.fsencode(path), mounting.UMOUNT_NOFOLLOW)
    except OSError as error:
        return f"{path}: {error.strerror}"
    with contextlib.suppress(OSError):
        os.rmdir(path)
    return ""


def _mount(path: str, size: int) -> None:
    flags, options = mounting.MS_NOSUID | mounting.MS_NODEV, f"size={size},mode=700"
    try:
        system.mount(SOURCE.encode(), os.fsencode(path), b"tmpfs", flags, f"{options},huge=within_size".encode())
    except OSError:  # a kernel without huge pages of shared memory refuses the option
        system.mount(SOURCE.encode(), os.fsencode(path), b"tmpfs", flags, options.encode())


def _holds_files(path: str) -> bool:
    return any(names for _, _, names in os.walk(path))
