"""The layers the settings are made of: file, `CKPTD_*` variables, flags. Each yields values by key, and origins."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckptd.settings.document import Document, KeyPath
from ckptd.settings.models import (
    AccessSettings,
    NodeSettings,
    ProbeSettings,
    ScrubSettings,
    TierSettings,
    TransferSettings,
)

PATH_KEYS = frozenset({("node", "state_dir"), ("node", "socket"), ("tiers", "ram", "path"), ("tiers", "nvme", "path")})
"""Made absolute: against the file's own directory, or the current one for variables and flags."""

COUNT_KEYS = frozenset({("transfer", "parallel"), ("transfer", "movers")})


@dataclass(frozen=True, slots=True)
class Overrides:
    """The flags of `ckptctl up` and `ckptd`, as given; None: not given."""

    path: str | None = None
    remote: str | None = None
    ram: str | None = None
    nvme: str | None = None
    """`DIR` or `DIR:SIZE`."""
    front: str | None = None
    state_dir: str | None = None
    socket: str | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    values: dict[KeyPath, Any] = field(default_factory=dict)
    """Leaves and, for a file, `("volumes",)` as a whole."""
    origins: dict[KeyPath, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def of_file(document: Document) -> Layer:
    """A table where a value belongs (or the reverse) is left for validation to complain about."""
    origins = {key: f"{document.path}:{line}" for key, line in document.lines.items()}
    return Layer(dict(_leaves(document.data, ())), origins)


def _leaves(node: Any, prefix: KeyPath) -> Iterable[tuple[KeyPath, Any]]:
    """Tables are walked, except below `volumes`: a list is replaced as a whole, never merged."""
    if isinstance(node, dict) and node:
        for key, inner in node.items():
            yield from _leaves(inner, (*prefix, key))
    else:
        yield prefix, node


def variables() -> dict[str, KeyPath]:
    """Every variable that sets a key. `CKPTD_CONFIG` names the file and is not among them."""
    sections: list[tuple[KeyPath, Iterable[str]]] = [
        (("node",), NodeSettings.model_fields),
        (("tiers", "ram"), TierSettings.model_fields),
        (("tiers", "nvme"), TierSettings.model_fields),
        (("transfer",), TransferSettings.model_fields),
        (("scrub",), ScrubSettings.model_fields),
        (("access",), AccessSettings.model_fields),
        (("probe",), ProbeSettings.model_fields),
    ]
    keys: list[KeyPath] = [(*section, name) for section, names in sections for name in names]
    found = {"CKPTD_" + "_".join(str(part) for part in key).upper(): key for key in keys}
    return found | {
        "CKPTD_NODE": ("node", "name"),
        "CKPTD_SOCKET": ("node", "socket"),
        "CKPTD_STATE_DIR": ("node", "state_dir"),
    }


def of_environ(environ: Mapping[str, str]) -> Layer:
    """Empty variables count as unset, as shells and units make them."""
    known = variables()
    values: dict[KeyPath, Any] = {}
    origins: dict[KeyPath, str] = {}
    problems: list[str] = []
    for variable in sorted(environ, key=lambda name: (len(name), name)):
        if variable in known and environ[variable]:
            values[known[variable]] = _typed(known[variable], environ[variable])
            origins[known[variable]] = variable
        elif re.match(r"CKPTD_(NODE|TIERS|TRANSFER|SCRUB|ACCESS|PROBE)_", variable) and variable not in known:
            problems.append(f"{variable}: no such setting{did_you_mean(variable, known)}")
    return Layer(values, origins, tuple(problems))


def _typed(key: KeyPath, text: str) -> str | int:
    """Variables are text; the keys that count something want a number. Sizes and times read text themselves."""
    return int(text) if key in COUNT_KEYS and re.fullmatch(r"-?[0-9]{1,18}", text) else text


def of_flags(flags: Overrides) -> Layer:
    """All flags but those that describe a volume (see `volumes`)."""
    values: dict[KeyPath, Any] = {}
    origins: dict[KeyPath, str] = {}

    def put(key: KeyPath, value: str | None, flag: str) -> None:
        if value is not None:
            values[key] = value
            origins[key] = flag

    put(("node", "state_dir"), flags.state_dir, "--state-dir")
    put(("node", "socket"), flags.socket, "--socket")
    put(("tiers", "ram", "budget"), flags.ram, "--ram")
    if flags.nvme is not None:
        folder, size = split_nvme(flags.nvme)
        put(("tiers", "nvme", "path"), folder, "--nvme")
        put(("tiers", "nvme", "budget"), size, "--nvme")
    return Layer(values, origins)


def split_nvme(text: str) -> tuple[str, str | None]:
    """`DIR[:SIZE]`; a colon in the directory's name is fine unless something like a size follows the last one."""
    folder, colon, tail = text.rpartition(":")
    if colon and re.fullmatch(r"-?[0-9.]+\s*[A-Za-z%]*", tail):
        return folder, tail
    return text, None


def absolute(layer: Layer, folder: str) -> Layer:
    values = {
        key: absolute_path(value, folder) if key in PATH_KEYS and isinstance(value, str) and value else value
        for key, value in layer.values.items()
    }
    return Layer(values, layer.origins, layer.problems)


def absolute_path(path: str, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
