"""Which front each volume gets, by the same questions that the start asks."""

from __future__ import annotations

import os

from ckptd.doctor.finding import Finding, failed, ok, warning
from ckptd.domain.errors import ConfigError
from ckptd.fronts.mount import mounting
from ckptd.settings.models import Settings, VolumeSettings
from ckptd.supervisor.choosing import choose
from ckptd.tiers.filesystem import mount_of


def front(volume: VolumeSettings, settings: Settings) -> Finding:
    check = f"front of {volume.name}"
    if mounting.is_stale(os.fsencode(volume.path)):
        return warning(check, f"{volume.path} is mounted, and its daemon is gone", "ckptctl up replaces it")
    if _served(volume.path):
        return ok(check, f"mount: {volume.path} is served now")
    try:
        choice = choose(settings.model_copy(update={"volumes": [volume]}))[volume.name]
    except ConfigError as error:
        return failed(check, error.message, error.hint)
    if choice.front == "mount":
        how = choice.reason or "the kernel moves the bytes (passthrough)"
        return ok(check, f"mount at {volume.path}: {how}")
    if volume.front == "watch":
        return ok(check, "watch: a plain directory, as configured")
    return ok(check, f"watch, a plain directory: {choice.reason}")


def kind(volume: VolumeSettings, settings: Settings) -> str:
    """`mount` or `watch`; what is asked for where neither can be."""
    if mounting.is_stale(os.fsencode(volume.path)) or _served(volume.path):
        return "mount"
    try:
        return choose(settings.model_copy(update={"volumes": [volume]}))[volume.name].front
    except ConfigError:
        return volume.front


def _served(path: str) -> bool:
    mount = mount_of(path)
    return mount is not None and mount.kind == mounting.TYPE.decode() and mount.point == os.path.realpath(path)
