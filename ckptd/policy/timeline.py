"""Which checkpoints of a run belong to a past that the job has left.

A job that was restarted from step 1000 after it had written 1200 writes 1100 next: the newer write wins, and 1200, though
its number is higher, is superseded: never meant by the run's name alone, the first to be let go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_LARGE = 16
"""A file counts as large from this part of the largest one's size."""


@dataclass(frozen=True, slots=True)
class Written:
    """When a checkpoint was written, by its files' own times, which manifests carry to every node."""

    step: int
    model_at: int
    """The earliest mtime of its large files, ns: a touched config.json does not change it, nor do converted weights that are
    put beside the old ones.
    """
    last_at: int
    """The latest mtime of all files, ns."""

    @classmethod
    def of(cls, step: int, files: Iterable[tuple[int, int]]) -> Written | None:
        """`files` as (size, mtime in ns); None without any."""
        found = list(files)
        if not found:
            return None
        largest = max(size for size, _ in found)
        model_at = min(mtime for size, mtime in found if size * _LARGE >= largest)
        return cls(step, model_at, max(mtime for _, mtime in found))


def superseded(restorable: Iterable[Written]) -> frozenset[int]:
    """The steps for which there is a smaller one whose large files are all younger than all files of theirs.

    So a slow save that overlaps the next one supersedes nothing, nor does a copy that keeps its files' times. With equal
    times, or with clocks that were set, the step decides.
    """
    found = []
    youngest: int | None = None
    for one in sorted(restorable, key=lambda written: written.step):
        if youngest is not None and youngest > one.last_at:
            found.append(one.step)
        youngest = one.model_at if youngest is None else max(youngest, one.model_at)
    return frozenset(found)
