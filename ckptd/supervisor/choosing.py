"""Which front each volume gets: `mount` where this machine can have it, else `watch`, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ckptd.domain.errors import ConfigError
from ckptd.fronts.mount import possible
from ckptd.settings.models import Settings, VolumeSettings


@dataclass(frozen=True, slots=True)
class Choice:
    front: str
    """`mount` or `watch`."""
    reason: str
    """Why it is not the other; for `mount`: why the kernel does not move the bytes. "" where there is nothing to say."""


def choose(
    settings: Settings,
    here: Callable[[], str] = possible.refused_here,
    at: Callable[[str], str] = possible.refused_at,
    slow: Callable[[], str] = possible.slow_here,
) -> Mapping[str, Choice]:
    """By volume name. `auto` watches, and says whether a mount could be had. Raises ConfigError for `mount` that cannot be."""
    return {volume.name: _choice(volume, settings, here, at, slow) for volume in settings.volumes}


def _choice(
    volume: VolumeSettings,
    settings: Settings,
    here: Callable[[], str],
    at: Callable[[str], str],
    slow: Callable[[], str],
) -> Choice:
    if volume.front == "watch":
        return Choice("watch", "")
    reason = here() or _no_ram(settings)
    if reason:
        if volume.front == "mount":
            raise ConfigError(
                f"volume {volume.name} cannot be mounted: {reason}", hint="fix that, or use --front watch"
            )
        return Choice("watch", reason)
    reason = at(volume.path)
    if reason and volume.front == "mount":
        raise ConfigError(
            f"volume {volume.name} cannot be mounted: {volume.path} {reason}",
            hint="name a new path or an empty directory, or use --front watch",
        )
    if reason:
        return Choice("watch", f"{volume.path} {reason}")
    if volume.front == "auto":  # until a full tier makes a mount's writers wait as it does those of a plain directory
        return Choice("watch", "a mount is made where it is asked for: --front mount")
    return Choice("mount", slow())


def _no_ram(settings: Settings) -> str:
    tier = settings.tiers.get("ram")
    return "" if tier is not None and tier.budget != 0 else "there is no RAM tier"


def backing_of(settings: Settings, volume: VolumeSettings) -> str:
    """The tree behind a mounted volume, in the RAM tier."""
    return os.path.join(os.path.realpath(settings.tiers["ram"].path), "volumes", volume.name)


def objects_of(settings: Settings, volume: VolumeSettings) -> str | None:
    """Where its demoted files are, in the NVMe tier."""
    tier = settings.tiers.get("nvme")
    if tier is None or tier.budget == 0:
        return None
    return os.path.join(os.path.realpath(tier.path), "volumes", volume.name, "objects")
