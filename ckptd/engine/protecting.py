"""What keeps a checkpoint from being let go by policy: tags, pins, the job's own links, a flush that was asked for by name."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ckptd.catalog import FileRow, PinRow
from ckptd.engine.unit import Unit
from ckptd.layouts import locate
from ckptd.policy.policy import Policy

UnitKey = tuple[str, str, int | None]

_LONGEST_CHAIN = 8
"""Links that lead to links, e.g. `best` -> `last` -> `checkpoint-100`."""


def protect(
    units: Sequence[Unit],
    tags: Mapping[UnitKey, Collection[str]],
    flushed: Collection[UnitKey],
    roots: Mapping[str, Collection[str]],
) -> None:
    """Fills in `protected` and `asked_for`.

    `flushed`: what a flush names that is running. `roots`: absolute paths by which jobs may call a volume.
    """
    linked = _linked(units, roots)
    for unit in units:
        key = unit.key
        if key in tags or key in flushed:
            names = [f"tag:{name}" for name in sorted(tags.get(key, ()))]
            flush = ["flush"] if key in flushed else []
            unit.asked_for = bool(names or flush)
            unit.protected = tuple(names + linked.get(key, []) + flush)
        else:
            unit.asked_for = False
            unit.protected = tuple(linked.get(key, ()))


def reasons(unit: Unit, policy: Policy, pins: Iterable[PinRow]) -> tuple[str, ...]:
    """All that protects it, as `ls` shows it."""
    found = list(unit.protected)
    its = [pin for pin in pins if (pin.volume, pin.run, pin.step) == unit.key]
    found += ["pin" if pin.until is None else "prefetch" for pin in its]
    if unit.step is not None and policy.keep_every and unit.step % policy.keep_every == 0:
        found.append("every")
    return tuple(found)


def _linked(units: Sequence[Unit], roots: Mapping[str, Collection[str]]) -> dict[UnitKey, list[str]]:
    """The links, and the pointer files, that name each checkpoint from elsewhere in its run."""
    found: dict[UnitKey, list[str]] = defaultdict(list)
    targets: dict[tuple[str, str], str] = {}
    for unit in units:
        if not unit.rows:
            continue
        if unit.links is None:
            unit.links = tuple(_links(unit.rows))
        for path, link in unit.links:
            if isinstance(link, int):
                run = locate(path).run
                found[unit.volume, run, link].append(_named(path, run))
            elif (inside := resolved(path, link, roots.get(unit.volume, ()))) is not None:
                targets[unit.volume, path] = inside
    for volume, path in targets:
        here, end = locate(path), _end(volume, path, targets)
        there = locate(end)
        if there.step is None:
            there = locate(f"{end}/-")  # it leads to the directory itself, not to a file in it
        if there.step is not None and there.run == here.run and there.step != here.step:
            found[volume, there.run, there.step].append(_named(path, here.run))
    return found


def _links(rows: Iterable[FileRow]) -> Iterator[tuple[str, str | int]]:
    for row in rows:
        if row.link is not None:
            yield row.path, row.link
        elif row.points_to is not None:
            yield row.path, row.points_to


def _named(path: str, run: str) -> str:
    return f"link:{path.removeprefix(f'{run}/')}"


def _end(volume: str, path: str, targets: Mapping[tuple[str, str], str]) -> str:
    """Where a path leads once the links on the way are followed."""
    for _ in range(_LONGEST_CHAIN):
        parts = path.split("/")
        heads = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
        link = next((head for head in heads if (volume, head) in targets), None)
        if link is None:
            break
        path = targets[volume, link] + path[len(link) :]
    return path


def resolved(path: str, link: str, roots: Collection[str]) -> str | None:
    """Where in the volume a link at `path` leads; None: out of it. Pure text, the target need not exist."""
    if link.startswith("/"):
        target = posixpath.normpath(link)
        for root in roots:
            if target.startswith(f"{root}/"):
                return target.removeprefix(f"{root}/")
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return None if target.startswith("..") or target == "." else target
