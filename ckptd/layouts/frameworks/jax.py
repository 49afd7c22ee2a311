"""JAX: Orbax, and what Flax wrote before it."""

from __future__ import annotations

import re

from ckptd.layouts.frameworks.layout import Layout, Names, base, folder, inside

_PROCESS = re.compile(r"ocdbt\.process_\d+", re.ASCII)
_DATA = re.compile(r"[0-9a-f]{32}")
_FLAX = re.compile(r"checkpoint_\d+", re.ASCII)


class Orbax(Layout):
    """Writes into `N.orbax-checkpoint-tmp…` and renames it. Where renaming is not atomic it writes into `N` at once, and
    commit_success.txt comes last; `_CHECKPOINT_METADATA` is there from the beginning then, with a commit time of null
    (orbax/checkpoint/_src/path/atomicity.py), which the look into the file tells (layouts/formats).

    With OCDBT each process writes below `ocdbt.process_<k>/`; at the end the databases are merged: manifest.ocdbt.
    """

    name = "orbax"
    places = ("{step}/**", "checkpoints/{step}/**", "ckpt_{step}/**")
    markers = frozenset({"_CHECKPOINT_METADATA", "commit_success.txt"})
    _own = frozenset({"_CHECKPOINT_METADATA", "manifest.ocdbt", "_METADATA", "_sharding"})

    def recognises(self, names: Names) -> bool:
        return not names.bases.isdisjoint(self._own) or any(_PROCESS.fullmatch(part) for part in _parts(names))

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        del previous
        for name in names.all:
            database = _database(name)
            if database is not None and inside(database, "manifest.ocdbt") not in names.set:
                return inside(database, "manifest.ocdbt")
        return None


def _parts(names: Names) -> set[str]:
    return {part for directory in names.folders for part in directory.split("/")}


def _database(name: str) -> str | None:
    """The directory of the OCDBT database that a file belongs to, the merged one's for a process's."""
    directories = folder(name).split("/") if "/" in name else []
    for at, part in enumerate(directories):
        if _PROCESS.fullmatch(part):
            return "/".join(directories[:at])
    if directories and directories[-1] == "d" and _DATA.fullmatch(base(name)):
        return "/".join(directories[:-1])
    return None


class Flax(Layout):
    """flax.training.checkpoints: one file `checkpoint_N` of msgpack, moved from `checkpoint_tmp`."""

    name = "flax"
    places = ("checkpoint_{step}",)

    def recognises(self, names: Names) -> bool:
        return any(_FLAX.fullmatch(base(name)) or name.endswith(".msgpack") for name in names.all)
