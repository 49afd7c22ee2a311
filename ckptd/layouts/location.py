"""Where a path belongs: to which run, to which step, and whether under a name to stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from ckptd.layouts.frameworks import MARKERS, POINTERS
from ckptd.layouts.patterns import Pattern, activate, active
from ckptd.layouts.steps import is_only_a_step, step_of_directory, step_of_file, step_of_plain_directory
from ckptd.layouts.temporary import UNFINISHED, final_name, is_temporary, is_temporary_run

_FORGET: list[Callable[[], None]] = []
"""Caches elsewhere whose answers depend on the patterns."""
KEPT = 1 << 12
"""Answers kept. By path they only serve who asks for the files of one checkpoint several times: a node may know of 128,000
paths, which would push each other out. What is worth keeping is known by directory and by name, of which there are few.
"""
TOP = "."
"""The run of what lies at the top of a volume."""


@dataclass(frozen=True, slots=True)
class Location:
    run: str
    step: int | None
    """None: a loose file, of no checkpoint."""
    temporary: bool
    """Not to be uploaded under this name."""
    last: bool
    """A marker or pointer: uploaded after all others."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path taken apart."""

    run: str
    step: int | None
    at: int | None
    """Which component carries the step; None if the file's name does, or none."""
    pattern: Pattern | None = None
    """The user's own that says so."""


def place_of(path: str) -> Place:
    """The run is the first directory; but where that is itself a step (`checkpoint-500/…`, a job that saves straight
    into the volume), the volume is the run, called ".". Patterns of the configuration come before the built-in rules.
    """
    if active() and (own := _by_pattern(path)) is not None:
        return own
    directory, _, name = path.rpartition("/")
    place = _place_of_directory(directory)
    return place if place.step is not None else _place_of_name(place.run, name)


@lru_cache(maxsize=KEPT)
def _place_of_directory(path: str) -> Place:
    """As far as the directories above a file tell. "" is the volume."""
    directories = path.split("/") if path else []
    finals = [final_name(directory) for directory in directories]
    run = finals[0] if finals else TOP
    if finals and is_only_a_step(run):
        run = TOP
    elif directories:
        run = directories[0]
    first = 0 if run == TOP else 1
    epoch: tuple[int, int] | None = None
    for at in range(first, len(finals)):
        step = step_of_directory(finals[at])
        if step is not None and "ep" in finals[at].lower() and "step" not in finals[at].lower():
            epoch = epoch or (step, at)  # a step further down is more exact
        elif step is not None:
            return Place(run, step, at)
    if epoch:
        return Place(run, *epoch)
    for at in range(1, len(finals)):
        step = step_of_plain_directory(finals[at], None if at == 1 else finals[at - 1])
        if step is not None:
            return Place(run, step, at)
    return Place(run, None, None)


@lru_cache(maxsize=KEPT)
def _place_of_name(run: str, name: str) -> Place:
    """Of a file whose directories tell no step."""
    if name in POINTERS:
        return Place(run, None, None)
    unfinished = UNFINISHED.fullmatch(name)
    step = step_of_file(final_name(name))
    if unfinished and step is None:
        step = step_of_directory(unfinished["name"])
    return Place(run, step, None)


@lru_cache(maxsize=KEPT)
def _by_pattern(path: str) -> Place | None:
    """As the path is written; else with the names that temporary files and directories will get."""
    parts = path.split("/")
    finals = [final_name(part) for part in parts]
    for pattern in active():
        for names in (parts, finals):
            if len(names) > 1 and (found := pattern.step_of("/".join(names[1:]))):
                return Place(parts[0], found[0], None if found[1] is None else found[1] + 1, pattern)
            if pattern.at_the_top and (found := pattern.step_of("/".join(names))):
                return Place(TOP, found[0], found[1], pattern)
    return None


@lru_cache(maxsize=KEPT)
def locate(path: str) -> Location:
    """`path` is relative to the volume."""
    directory, _, name = path.rpartition("/")
    place = place_of(path)
    temporary = is_temporary(name) or _is_temporary_directory(directory)
    last = name in MARKERS or name in POINTERS or (place.pattern is not None and place.pattern.is_marker(name))
    return Location(place.run, place.step, temporary, last)


@lru_cache(maxsize=KEPT)
def _is_temporary_directory(path: str) -> bool:
    """Or in one. "" is the volume."""
    parts = path.split("/") if path else []
    return any(is_temporary(part) if at else is_temporary_run(part) for at, part in enumerate(parts))


def on_configure(forget: Callable[[], None]) -> None:
    """Registers what empties a cache whose answers depend on the patterns."""
    _FORGET.append(forget)


def configure(patterns: Iterable[Pattern]) -> None:
    """Puts patterns of users before the built-in rules. Raises ValueError for one that cannot be used.

    To be called once, before anything is located: what is known of paths by then is forgotten here, but not by others.
    """
    activate(patterns)
    for cached in (
        is_temporary, is_temporary_run, final_name, locate, _by_pattern, _place_of_directory, _place_of_name,
        _is_temporary_directory,
    ):  # fmt: skip
        cached.cache_clear()
    for forget in _FORGET:
        forget()
