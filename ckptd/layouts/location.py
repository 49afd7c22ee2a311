"""Where a path belongs: to which run, to which step, and whether under a name to stay."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ckptd.layouts.steps import is_only_a_step, step_of_directory, step_of_file, step_of_plain_directory
from ckptd.layouts.temporary import MARKERS, POINTERS, final_name, is_temporary, is_temporary_run

KEPT = 1 << 15
"""Answers kept: the same paths are asked for at every look of the reconciler."""
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


@lru_cache(maxsize=KEPT)
def place_of(path: str) -> Place:
    """The run is the first directory; but where that is itself a step (`checkpoint-500/…`, a job that saves straight
    into the volume), the volume is the run, called ".".
    """
    *directories, name = path.split("/")
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
    return Place(run, None if name in POINTERS else step_of_file(final_name(name)), None)


@lru_cache(maxsize=KEPT)
def locate(path: str) -> Location:
    """`path` is relative to the volume."""
    *directories, name = path.split("/")
    place = place_of(path)
    temporary = is_temporary(name) or any(
        is_temporary(part) if at else is_temporary_run(part) for at, part in enumerate(directories)
    )
    return Location(place.run, place.step, temporary, name in MARKERS or name in POINTERS)
