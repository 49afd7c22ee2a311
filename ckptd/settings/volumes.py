"""The list of volumes: from the file or the embedded default, with the flags that describe one applied."""

from __future__ import annotations

import os
from typing import Any

from ckptd.domain.errors import ConfigError
from ckptd.settings import defaults
from ckptd.settings.document import KeyPath
from ckptd.settings.layers import Overrides, absolute_path

Origins = dict[KeyPath, str]


def from_file(raw: Any, folder: str) -> Any:
    """Paths made absolute against the file's directory, names defaulted. Anything malformed is left for validation."""
    if not isinstance(raw, list):
        return raw
    return [_completed(volume, folder, n) if isinstance(volume, dict) else volume for n, volume in enumerate(raw)]


def _completed(volume: dict[str, Any], folder: str, number: int) -> dict[str, Any]:
    path = volume.get("path")
    if not isinstance(path, str) or not path:
        return {"name": f"volume{number}", **volume}
    whole = absolute_path(path, folder)
    return {"name": os.path.basename(whole), **volume, "path": whole}


def apply_flags(volumes: list[Any], flags: Overrides, *, state: str, cwd: str, origins: Origins) -> list[Any]:
    """`PATH`, `--remote` and `--front` describe one volume: the one with that path, else the only one, else a new one.

    Raises ConfigError where several volumes are configured and the flags do not say which they mean.
    """
    if not volumes:
        volumes = [defaults.volume(state, cwd)]
    if flags.path is None and flags.remote is None and flags.front is None:
        return volumes
    wanted = None if flags.path is None else absolute_path(flags.path, cwd)
    index = _meant(volumes, wanted)
    changed = dict(volumes[index])
    for key, value, flag in (
        ("path", wanted, "PATH"),
        ("remote", flags.remote, "--remote"),
        ("front", flags.front, "--front"),
    ):
        if value is not None:
            changed[key] = value
            origins["volumes", index, key] = flag
    return [*volumes[:index], changed, *volumes[index + 1 :]]


def _meant(volumes: list[Any], path: str | None) -> int:
    if len(volumes) == 1 and isinstance(volumes[0], dict):
        return 0
    paths = [volume.get("path") if isinstance(volume, dict) else None for volume in volumes]
    if path in paths and path is not None:
        return paths.index(path)
    listed = ", ".join(str(known) for known in paths)
    subject = (
        f"'{path}' is none of the configured volumes"
        if path
        else "--remote and --front need a PATH to say which volume"
    )
    raise ConfigError(f"{subject} ({listed})", hint="name one of them, or add it to the file as [[volumes]]")
