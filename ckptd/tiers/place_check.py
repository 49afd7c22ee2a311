"""May a tier live here? Asked once at start, so that a bad place is told before the first save and not after it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping

from ckptd.domain.errors import ConfigError
from ckptd.domain.model import Place
from ckptd.tiers.filesystem import FileSystem, filesystem_of

VOLUMES = "volumes"
"""The one folder of a tier in which volumes may lie."""


def check_tier(place: Place, path: str, volumes: Mapping[str, str]) -> FileSystem:
    """Makes the directory if need be. `volumes`: name to path. Raises ConfigError naming the path and the way out."""
    key = f"tiers.{place}.path"
    for name, volume in volumes.items():
        check_apart(key, path, name, volume)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0")
    except OSError as error:
        if error.errno != errno.ENOSPC or not os.path.isdir(os.path.join(path, VOLUMES)):
            raise _unusable(key, path, error) from error
        # It is one, and full of what a daemon has to move away.
    found = filesystem_of(path)
    if found.network:
        raise ConfigError(
            f"{key}: '{path}' is on a network or user-space file system ({found.name}), a tier has to be local",
            hint="use a local disk for the tier; the shared directory can be the remote: file://<directory>",
        )
    return found


def _unusable(key: str, path: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"{key}: '{path}' cannot be used as a tier: {error.strerror}",
        hint="choose a directory that this user may create and write to",
    )


def check_apart(key: str, tier: str, name: str, volume: str) -> None:
    """A tier inside a volume would be taken for checkpoints; a volume inside a tier has its own folder there."""
    real_tier, real_volume = os.path.realpath(tier), os.path.realpath(volume)
    if _inside(real_tier, real_volume):
        raise ConfigError(
            f"{key}: '{tier}' lies inside volume '{name}' ('{volume}')",
            hint="put the tier beside the volume, not into it",
        )
    if _inside(real_volume, real_tier) and not _inside(real_volume, os.path.join(real_tier, VOLUMES), itself=False):
        raise ConfigError(
            f"volume '{name}': '{volume}' lies inside the tier '{tier}', where only '{tier}/{VOLUMES}/' holds volumes",
            hint=f"use '{tier}/{VOLUMES}/{name}', or a path that does not exist yet",
        )


def root_in(tier: str, name: str) -> str:
    """Where the tree of a volume is that has no directory of its own on a tier."""
    return os.path.join(tier, VOLUMES, name)


def objects_in(tier: str, name: str) -> str:
    """Where a volume's demoted files are."""
    return os.path.join(root_in(tier, name), "objects")


def make_root(root: str) -> None:
    """A volume's directory in a tier. As /tmp where the root daemon serves every user's job: chown and chmod narrow it."""
    if not os.path.isdir(root):
        os.makedirs(os.path.dirname(root), mode=0o700, exist_ok=True)
        os.makedirs(root)
        if os.geteuid() == 0:
            os.chmod(root, 0o1777)  # noqa: S103


def _inside(path: str, folder: str, *, itself: bool = True) -> bool:
    return (itself and path == folder) or path.startswith(folder.rstrip("/") + "/")
