"""What differs between two checkpoints, by the checksums of their parts: nothing is read. Pure.

Files are compared by their names with the step blanked (`checkpoint-100/model.pt` and `checkpoint-200/model.pt` are the same
file of two steps), links by what they lead to.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from ckptd.domain.model import Checksums, DiffReport, FileDifference
from ckptd.engine.unit import Unit
from ckptd.layouts.names import comparable


@dataclass(frozen=True, slots=True)
class Content:
    """A file of a checkpoint as far as it matters for a comparison."""

    path: str
    size: int
    link: str | None
    checksums: Checksums | None


def contents(unit: Unit) -> list[Content]:
    """Of its files, wherever they are."""
    found = [Content(row.path, row.size, row.link, row.checksums) for row in unit.rows]
    return found + [Content(entry.path, entry.size, entry.link, entry.checksums) for entry in unit.cold.values()]


def difference(one: Unit, other: Unit) -> DiffReport:
    """`one` and `other` are checkpoints, of one run or of two."""
    mine, theirs = _by_name(contents(one)), _by_name(contents(other))
    files = tuple(
        _pair(name, a, b)
        for name in sorted(mine.keys() | theirs.keys())
        for a, b in zip_longest(mine.get(name, ()), theirs.get(name, ()))
    )

    def total(state: str, attribute: str) -> int:
        return sum(getattr(file, attribute) for file in files if file.state == state)

    return DiffReport(
        volume=one.volume,
        one=f"{one.run}@{one.step}",
        other=f"{other.run}@{other.step}",
        files=files,
        equal_bytes=sum(file.equal_bytes for file in files),
        differing_bytes=sum(file.differing_bytes for file in files if file.state == "differs"),
        only_one_bytes=total("only-one", "one_bytes"),
        only_other_bytes=total("only-other", "other_bytes"),
        unchecked=sum(file.state == "unchecked" for file in files),
    )


def _by_name(files: Iterable[Content]) -> dict[str, list[Content]]:
    """Names may become equal once their numbers are blanked; then their order decides."""
    found: dict[str, list[Content]] = defaultdict(list)
    for file in sorted(files, key=lambda file: file.path):
        found[comparable(file.path)].append(file)
    return found


def _pair(name: str, a: Content | None, b: Content | None) -> FileDifference:
    if b is None:
        size = 0 if a is None else a.size
        return FileDifference(name, "only-one", size, 0, 0, 0)
    if a is None:
        return FileDifference(name, "only-other", 0, b.size, 0, 0)
    if a.link is not None or b.link is not None:
        same = a.link is not None and b.link is not None and _leads(a) == _leads(b)
        return FileDifference(
            name, "equal" if same else "differs", a.size, b.size, 0, 0 if same else max(a.size, b.size)
        )
    if a.checksums is None or b.checksums is None:
        return FileDifference(name, "unchecked", a.size, b.size, 0, 0)
    differing = differing_bytes(a.checksums, b.checksums)
    equal = max(a.size, b.size) - differing
    return FileDifference(name, "differs" if differing else "equal", a.size, b.size, equal, differing)


def _leads(file: Content) -> str:
    """Blanked like a name: `best -> checkpoint-100` in 100 and `best -> checkpoint-200` in 200 are the same link."""
    target = file.link or ""
    if target.startswith("/"):
        return target
    return comparable(posixpath.normpath(posixpath.join(posixpath.dirname(file.path), target)))


def differing_bytes(a: Checksums, b: Checksums) -> int:
    """In parts that differ; a part that only the longer file has differs. Files cut into parts of other lengths are compared
    as a whole.
    """
    if (a.size, a.whole) == (b.size, b.whole):
        return 0
    if a.part_size != b.part_size:
        return max(a.size, b.size)
    return sum(
        max(_length(a, number), _length(b, number))
        for number, (one, other) in enumerate(zip_longest(a.parts, b.parts))
        if one != other or _length(a, number) != _length(b, number)
    )


def _length(sums: Checksums, number: int) -> int:
    return max(0, min(sums.part_size, sums.size - number * sums.part_size))


def unchecked(units: Sequence[Unit]) -> int:
    """Bytes of the files here that have no checksum yet."""
    return sum(
        row.size for unit in units for row in unit.rows if row.link is None and row.checksums is None and row.local()
    )
