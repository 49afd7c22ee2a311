"""From settings to tiers and volumes that can be used: everything that must hold before a front starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Literal

from ckptd.catalog import Catalog
from ckptd.domain.errors import ConfigError
from ckptd.domain.model import TIERS, Place
from ckptd.engine.volume import WATCHED, Front, Tier, Volume
from ckptd.manifest import ManifestStore
from ckptd.settings import Settings, VolumeSettings
from ckptd.tiers.budget import tier_budget
from ckptd.tiers.filesystem import huge_pages
from ckptd.tiers.object_names import key_beside
from ckptd.tiers.place_check import VOLUMES, check_tier, make_root, objects_in, root_in
from ckptd.transfer.transfers import Remote, Transfers

_NAMES: dict[Place, Literal["ram", "nvme"]] = {Place.RAM: "ram", Place.NVME: "nvme"}


def prepare_tiers(settings: Settings, *, watched: bool = True) -> dict[Place, Tier]:
    """Makes and checks the directories. Raises ConfigError naming the path and the fix.

    `watched`: users' jobs reach a volume, or their demoted files, by the tiers' own paths. Else nobody has a way past the mounts.
    """
    volumes = {volume.name: volume.path for volume in settings.volumes}
    tiers = {}
    for place in TIERS:
        configured = settings.tiers.get(_NAMES[place])
        if configured is None or configured.budget == 0:
            continue
        path = os.path.realpath(configured.path)  # what is opened below is checked to lie where its path says
        check_tier(place, path, volumes)
        for folder in ("staging", "quarantine", VOLUMES):
            os.makedirs(os.path.join(path, folder), mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            for passed in (path, os.path.join(path, VOLUMES)):
                os.chmod(passed, 0o711 if watched else 0o700)
        budget = tier_budget(place, path, configured.budget, occupied=_occupied(path))
        tiers[place] = Tier(place, path, budget, huge_pages=huge_pages(path))
    return tiers


def _occupied(path: str) -> int:
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
    return total


def prepare_volume(
    settings: VolumeSettings, tiers: dict[Place, Tier], transfers: Transfers, front: Front = WATCHED
) -> Volume:
    """Finds (or makes) the volume's directory on a tier. Raises ConfigError."""
    root, home = _mounted(settings, tiers) if front.is_mount else _root(settings, tiers)
    nvme = tiers.get(Place.NVME)
    objects, key = None, b""
    if home is Place.RAM and nvme is not None:
        objects, key = _objects(objects_in(nvme.path, settings.name), watched=not front.is_mount)
    remote = Remote(settings.name, settings.remote, tuple(sorted(settings.remote_options.items())))
    return Volume(
        settings.name,
        settings.path,
        root,
        home,
        objects,
        remote,
        settings.policy.to_policy(),
        ManifestStore(transfers, remote),
        front,
        key,
    )


def _objects(path: str, *, watched: bool) -> tuple[str, bytes]:
    """Makes the directory of demoted files; returns it, and what their names are made with (`tiers.object_names`)."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    real = os.path.realpath(path)
    if os.geteuid() != 0:
        return real, b""
    for passed in (os.path.dirname(real), real):
        os.chmod(passed, 0o711 if watched else 0o700)
    return real, key_beside(real)


def _mounted(settings: VolumeSettings, tiers: dict[Place, Tier]) -> tuple[str, Place]:
    """The supervisor has made it, and mounted `path` over it: looking at `path` would wait for the mount."""
    return root_in(tiers[Place.RAM].path, settings.name), Place.RAM


def _root(settings: VolumeSettings, tiers: dict[Place, Tier]) -> tuple[str, Place]:
    path = settings.path
    if not os.path.lexists(path) or (os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path)):
        if Place.RAM in tiers and _home(path, tiers) is not Place.RAM:
            return _link_into(path, settings.name, tiers[Place.RAM]), Place.RAM
        os.makedirs(path, exist_ok=True)
    elif os.path.islink(path) and not os.path.exists(path):
        return _revived(path, settings.name, tiers)
    elif not os.path.isdir(path):
        raise ConfigError(f"volume {settings.name}: {path} is not a directory", hint="name a directory, or a new path")
    home = _home(path, tiers)
    if home is None:
        raise ConfigError(
            f"volume {settings.name}: {path} has files and lies on no tier's file system",
            hint=f"name a new path, or set tiers.nvme.path to a directory on the file system of {path}",
        )
    return os.path.realpath(path), home


def _home(path: str, tiers: dict[Place, Tier]) -> Place | None:
    existing = os.path.realpath(path)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    device = os.stat(existing).st_dev
    return next((place for place, tier in tiers.items() if os.stat(tier.path).st_dev == device), None)


def _link_into(path: str, name: str, tier: Tier) -> str:
    root = root_in(tier.path, name)
    make_root(root)
    try:
        if os.path.isdir(path):
            os.rmdir(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(root, path)
    except OSError as error:
        raise ConfigError(
            f"volume {name}: {path} cannot be made a link into the RAM tier: {error.strerror}",
            hint="name a path in a directory that you may write to",
        ) from error
    return os.path.realpath(root)


def _revived(path: str, name: str, tiers: dict[Place, Tier]) -> tuple[str, Place]:
    """A link that leads nowhere: ours, and the RAM tier was lost (a reboot), or somebody else's."""
    target = os.readlink(path)
    for place, tier in tiers.items():
        root = root_in(tier.path, name)
        if os.path.realpath(target) == root:
            make_root(root)
            return os.path.realpath(root), place
    raise ConfigError(
        f"volume {name}: {path} is a link to {target}, which does not exist",
        hint="remove the link, or name another path",
    )


async def check_paths(catalog: Catalog, volumes: Iterable[Volume]) -> None:
    """One volume is one directory: raises ConfigError where another path leads to the same files."""
    for volume in volumes:
        name = f"path:{volume.name}"
        before = await catalog.facts.get(name)
        if not volume.front.is_mount and before not in (None, volume.path) and os.path.realpath(before) == volume.root:
            if os.path.islink(volume.path):
                os.unlink(volume.path)
            raise ConfigError(
                f"volume {volume.name} is served at {before} already, not at {volume.path}",
                hint=f"remove the link {before} to move it, or name another --state-dir for another project",
            )
        await catalog.facts.set(name, volume.path)
