"""Volumes, remotes and tiers that would get into each other's way: two writers for a key, uploads of uploads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import combinations

from ckptd.settings.complaints import placed
from ckptd.settings.document import KeyPath
from ckptd.settings.models import Settings, VolumeSettings

Origins = Mapping[KeyPath, str]


def overlaps(settings: Settings, origins: Origins) -> list[str]:
    return [
        *_twins(settings, origins),
        *_remotes_inside(settings, origins),
        *_tiers(settings, origins),
        *_layouts(settings, origins),
    ]


def _layouts(settings: Settings, origins: Origins) -> list[str]:
    return [
        placed(("layouts", second, "name"), f"two layouts are called {two.name!r}", origins)
        for (_, one), (second, two) in combinations(enumerate(settings.layouts), 2)
        if one.name == two.name
    ]


def _twins(settings: Settings, origins: Origins) -> list[str]:
    found: list[str] = []
    for (first, one), (second, two) in combinations(enumerate(settings.volumes), 2):
        if one.name == two.name:
            message = f"two volumes are called {two.name!r}; every volume needs a name of its own"
            found.append(placed(("volumes", second, "name"), message, origins))
        for key, parts in (("path", path_parts), ("remote", remote_parts)):
            if relation := _relation(parts(getattr(two, key)), parts(getattr(one, key))):
                message = (
                    f"{getattr(two, key)!r} {relation} the {key} of volume {one.name!r} ({getattr(one, key)!r}"
                    f"{_at(('volumes', first, key), origins)}); volumes must not overlap"
                )
                found.append(placed(("volumes", second, key), message, origins))
    return found


def _remotes_inside(settings: Settings, origins: Origins) -> list[str]:
    """A directory remote in a volume would be uploaded into itself."""
    found: list[str] = []
    for index, volume in enumerate(settings.volumes):
        for other in settings.volumes:
            if relation := _local_relation(volume, other):
                message = f"{volume.remote!r} {relation} the directory of volume {other.name!r} ({other.path!r})"
                found.append(placed(("volumes", index, "remote"), message, origins))
    return found


def _local_relation(volume: VolumeSettings, other: VolumeSettings) -> str:
    if volume.remote_path is None:
        return ""
    return _relation(path_parts(volume.remote_path), path_parts(other.path))


def _tiers(settings: Settings, origins: Origins) -> list[str]:
    """RAM and NVMe need separate directories, and neither may hold a remote: budgets would count it."""
    tiers = [(name, tier.path) for name, tier in settings.tiers.items()]
    found: list[str] = []
    for (one, path), (two, other) in combinations(tiers, 2):
        if relation := _relation(path_parts(other), path_parts(path)):
            message = f"{other!r} {relation} the directory of the {one} tier ({path!r})"
            found.append(placed(("tiers", two, "path"), message, origins))
    for name, path in tiers:
        for index, volume in enumerate(settings.volumes):
            remote = volume.remote_path
            if remote is not None and (relation := _relation(path_parts(remote), path_parts(path))):
                message = f"{volume.remote!r} {relation} the directory of the {name} tier ({path!r})"
                found.append(placed(("volumes", index, "remote"), message, origins))
    return found


def path_parts(path: str) -> tuple[str, ...]:
    """Links in the directories above are followed, the last component is not: a volume may be our link into a tier."""
    whole = os.path.abspath(path)
    real = os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))
    return tuple(part for part in real.split("/") if part)


def remote_parts(url: str) -> tuple[str, ...]:
    """Scheme and authority without case (RFC 3986), path components without empty ones."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() == "file":
        return ("file", *path_parts(rest))
    authority, _, path = rest.partition("/")
    return (scheme.lower(), authority.lower(), *(part for part in path.split("/") if part))


def _relation(one: tuple[str, ...], two: tuple[str, ...]) -> str:
    """How the first lies to the second; empty when they are apart."""
    if one == two:
        return "is the same as"
    if one[: len(two)] == two:
        return "lies inside"
    if two[: len(one)] == one:
        return "contains"
    return ""


def _at(key: KeyPath, origins: Origins) -> str:
    return f", {origins[key]}" if key in origins else ""
