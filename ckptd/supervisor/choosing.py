"""Which front each volume gets: `mount` where this machine can have it, else `watch`, and why."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ckptd.domain.errors import ConfigError
from ckptd.fronts.mount import possible
from ckptd.settings.models import Settings, VolumeSettings
from ckptd.tiers.place_check import objects_in, root_in


@dataclass(frozen=True, slots=True)
class Choice:
    front: str
    """`mount` or `watch`."""
    reason: str
    """Why it is not the other; for `mount`: why the kernel does not move the bytes. "" where there is nothing to say."""


def choose(settings: Settings, mounted: Collection[str] = ()) -> Mapping[str, Choice]:
    """By volume name. `auto` mounts where the kernel moves the bytes, else watches. Raises ConfigError where it cannot be.

    `mounted`: names of those whose mount outlived the supervisor that made it.
    """
    return {
        volume.name: Choice("mount", possible.slow_here()) if volume.name in mounted else _choice(volume, settings)
        for volume in settings.volumes
    }


def _choice(volume: VolumeSettings, settings: Settings) -> Choice:
    if volume.front == "watch":
        return Choice("watch", "")
    reason, hint = possible.refused_here() or _no_ram(settings), "fix that, or use --front watch"
    if not reason and (at := possible.refused_at(volume.path)):
        reason, hint = f"{volume.path} {at}", "name a new path or an empty directory, or use --front watch"
    if volume.front == "mount":
        if reason:
            raise ConfigError(f"volume {volume.name} cannot be mounted: {reason}", hint=hint)
        return Choice("mount", possible.slow_here())
    reason = reason or possible.slow_here()
    return Choice("watch", reason) if reason else Choice("mount", "")


def _no_ram(settings: Settings) -> str:
    tier = settings.tiers.get("ram")
    return "" if tier is not None and tier.budget != 0 else "there is no RAM tier"


def backing_of(settings: Settings, volume: VolumeSettings) -> str:
    """The tree behind a mounted volume, in the RAM tier."""
    return root_in(os.path.realpath(settings.tiers["ram"].path), volume.name)


def objects_of(settings: Settings, volume: VolumeSettings) -> str | None:
    """Where its demoted files are, in the NVMe tier."""
    tier = settings.tiers.get("nvme")
    if tier is None or tier.budget == 0:
        return None
    return objects_in(os.path.realpath(tier.path), volume.name)
