"""What a layout is: the rules of one framework, as pure functions over the names of one checkpoint's files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

GENERIC_MARKERS = frozenset({
    "commit_success.txt", "_SUCCESS", "COMPLETE", "DONE", "SUCCESS", ".complete", ".done", ".success", ".COMPLETE",
    ".DONE", ".SUCCESS",
})  # fmt: skip
"""Whoever writes one of these means it, in any framework."""

_GRID_LIMIT = 1_000_000
"""Ranks that are counted through; numbers beyond are no ranks."""


def base(name: str) -> str:
    return name.rpartition("/")[2]


def folder(name: str) -> str:
    return name.rpartition("/")[0]


def inside(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


@dataclass(frozen=True)
class Names:
    """The files of one checkpoint, without those under temporary names."""

    root: str
    """Base name of its directory, or of its only file."""
    all: tuple[str, ...]
    """Relative to the root, sorted. Of a checkpoint that is one file: that file's base name."""

    @classmethod
    def of(cls, names: Iterable[str], root: str = "") -> Names:
        return cls(base(root), tuple(sorted(names)))

    @cached_property
    def set(self) -> frozenset[str]:
        return frozenset(self.all)

    @cached_property
    def bases(self) -> frozenset[str]:
        return frozenset(base(name) for name in self.all)

    @cached_property
    def folders(self) -> frozenset[str]:
        """Directories with files right in them; "" is the root."""
        return frozenset(folder(name) for name in self.all)


class Layout:
    """One framework. The class attributes are also what docs/layouts.md says of it."""

    name = "generic"
    places: tuple[str, ...] = ()
    """Where its checkpoints lie in a run, as the patterns of the configuration are written: `iter_{step}/**`."""
    markers: frozenset[str] = frozenset()
    """Base names that say: complete. Each is the last file that is written into the checkpoint's directory."""
    pointers: frozenset[str] = frozenset()
    """Base names of files beside the checkpoints that name the newest one."""
    awaits_pointer = False
    """A pointer comes after the checkpoint; mere quiet before it proves less, since ranks may pause."""
    pointer_is_last = False
    """All ranks have met (a barrier) before a pointer names the checkpoint: it completes it at once."""

    def recognises(self, names: Names) -> bool:
        raise NotImplementedError

    def marker(self, names: Names) -> str | None:
        """The file that says the checkpoint is complete, if it is there. (One further down speaks for its part.)"""
        return next((name for name in names.all if name in self.markers or name in GENERIC_MARKERS), None)

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        """A file without which a checkpoint of this framework is never complete.

        `previous` has the names of the run's last complete one, as `names_of` gives them.
        """
        del names, previous
        return None


def hole(ranks: Iterable[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The first combination of ranks that is missing: each number counts from 0 to the highest that was seen."""
    seen = set(ranks)
    if not seen:
        return None
    tops = [max(numbers) + 1 for numbers in zip(*seen, strict=True)]
    total = 1
    for top in tops:
        total *= top
    if total == len(seen) or total > _GRID_LIMIT:
        return None
    return next((combination for combination in product(*map(range, tops)) if combination not in seen), None)
