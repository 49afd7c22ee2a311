"""Settings from their layers, each stronger than the one before: defaults, file, `CKPTD_*` variables, flags."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ckptd import locations
from ckptd.domain.errors import ConfigError
from ckptd.settings import defaults, volumes
from ckptd.settings.complaints import complaints, placed
from ckptd.settings.document import KeyPath, read_document
from ckptd.settings.layers import Layer, Overrides, absolute, of_environ, of_file, of_flags
from ckptd.settings.models import Settings
from ckptd.settings.overlaps import overlaps


@dataclass(frozen=True, slots=True)
class Effective:
    settings: Settings
    origins: Mapping[KeyPath, str] = field(default_factory=dict)
    """Where a value came from: `FILE:LINE`, a variable or a flag; a key that is not here has its default."""
    config: str | None = None
    """The file that was read."""

    def origin(self, key: KeyPath) -> str:
        return self.origins.get(key, "default")


def load(
    *, config: str | None = None, environ: Mapping[str, str] | None = None, overrides: Overrides | None = None,
    uid: int | None = None, cwd: str | None = None,
) -> Effective:  # fmt: skip
    """Raises ConfigError naming every problem with its file, line and key. Reads one file, creates nothing."""
    environ = os.environ if environ is None else environ
    overrides = overrides or Overrides()
    uid = os.getuid() if uid is None else uid
    cwd = os.getcwd() if cwd is None else cwd

    path = _config_file(config, environ, uid, cwd)
    document = read_document(path) if path else None
    folder = os.path.dirname(path) if path else cwd
    layers = [
        absolute(of_file(document), folder) if document else Layer(),
        absolute(of_environ(environ), cwd),
        absolute(of_flags(overrides), cwd),
    ]
    values: dict[KeyPath, Any] = {}
    origins: dict[KeyPath, str] = {}
    for layer in layers:
        values |= layer.values
        origins |= layer.origins
    state = values.get(("node", "state_dir"))
    state = state if isinstance(state, str) and state else locations.state_dir(uid)
    raw = _merge(defaults.base(state, uid, environ), values)
    listed = volumes.from_file(raw["volumes"], folder)
    if isinstance(listed, list):
        listed = volumes.apply_flags(listed, overrides, state=state, cwd=cwd, origins=origins)
    settings = _validated(
        {**raw, "volumes": listed}, origins, [problem for layer in layers for problem in layer.problems]
    )
    return Effective(settings, origins, path)


def _config_file(config: str | None, environ: Mapping[str, str], uid: int, cwd: str) -> str | None:
    """A file that was named must exist; the one at its usual place may be missing."""
    named = config or environ.get("CKPTD_CONFIG") or None
    if named:
        return os.path.normpath(os.path.join(cwd, os.path.expanduser(named)))
    usual = locations.config_path(uid)
    return usual if os.path.exists(usual) else None


def _merge(base: dict[str, Any], values: dict[KeyPath, Any]) -> dict[str, Any]:
    """A value in a table's place stays, for validation to complain about. An empty table takes nothing away."""
    for key, value in values.items():
        if not key:
            continue
        node: Any = base
        for part in key[:-1]:
            if not isinstance(node.get(part), dict):
                node[part] = {}
            node = node[part]
        if value != {} or not isinstance(node.get(key[-1]), dict):
            node[key[-1]] = value
    return base


def _validated(raw: dict[str, Any], origins: dict[KeyPath, str], problems: Iterable[str]) -> Settings:
    try:
        settings = Settings.model_validate(raw)
        found = [*problems, *overlaps(settings, origins)]
        if settings.tiers["ram"].budget == 0:
            found.append(placed(("tiers", "ram", "budget"), "must be more than 0: saves go to RAM first", origins))
    except ValidationError as error:
        found = [*problems, *complaints(error, origins)]
    if found:
        raise ConfigError("\n".join(found), hint="every key is described in docs/configuration.md")
    if settings.tiers["nvme"].budget == 0:
        settings = settings.model_copy(update={"tiers": {"ram": settings.tiers["ram"]}})
    return settings
