"""Names of a checkpoint's files in a form that can be compared between steps, and what they tell to be missing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

from ckptd.layouts.location import KEPT, TOP, on_configure, place_of
from ckptd.layouts.steps import step_of_directory, step_of_file

_SHARD = re.compile(r"(?P<before>.*[-_.])(?P<number>\d+)-of-(?P<count>\d+)(?P<after>.*)")
_RANK = re.compile(r"(?P<before>.*?(?:rank|rng_state|random_states|__)[-_]?)(?P<number>\d+)(?P<after>\D.*|$)")
_WORLD = re.compile(r"(?P<before>.*world_size_)(?P<world>\d{1,6})_rank_(?P<number>\d{1,6})(?P<after>\D.*|$)")
_LIGHT = (
    ".json", ".jsonl", ".txt", ".md", ".yaml", ".yml", ".toml", ".jinja", ".csv", ".tsv", ".py", ".cfg", ".ini", ".html",
)  # fmt: skip
_TOLD_BY_THE_WAY = re.compile(
    r"events\.out\.tfevents\.|\.(?:log|out|err|png|jpe?g|gif|svg|webp|mp4|wav|bak|old|swp)$", re.IGNORECASE
)
"""What a job writes into a checkpoint when it likes: no later checkpoint must have it."""
_DIGITS = re.compile(r"\d+(?:\.\d+)?(?!-of-)")


@lru_cache(maxsize=KEPT)
def comparable(path: str) -> str:
    """Relative to the run, with the step (and what changes with it: epoch, loss) replaced by `{n}`."""
    place = place_of(path)
    parts = path.split("/")
    first = 0 if place.run == TOP else 1
    *directories, name = parts[first:]
    own = place.pattern is not None
    if own and place.at is not None:  # a pattern's step may stand anywhere in the name
        at = place.at - first
        directories[at] = _DIGITS.sub("{n}", directories[at])
    elif own:
        name = _blank(name)
    done = [_blank(part) if _is_step(step_of_directory(part), part, place.step) else part for part in directories]
    return "/".join([*done, _blank(name) if _is_step(step_of_file(name), name, place.step) else name])


on_configure(comparable.cache_clear)


@lru_cache(maxsize=KEPT)
def kind_of(path: str) -> str:
    """What a run's checkpoints of one sort have in common: `checkpoint-{n}/`, `step_{n}.pt`. `path` is that of a file of
    one, or that of its directory.
    """
    place = place_of(path)
    if place.step is not None and place.at is None:
        return comparable(path)
    parts = path.split("/")
    directory = "/".join(parts if place.at is None else parts[: place.at + 1])
    return comparable(f"{directory}/-").removesuffix("-")


on_configure(kind_of.cache_clear)


def _is_step(found: int | None, part: str, step: int | None) -> bool:
    return step is not None and (found == step or (part.isdecimal() and int(part) == step))


@lru_cache(maxsize=KEPT)
def _blank(name: str) -> str:
    shard = _SHARD.fullmatch(name)
    if shard:
        return f"{_DIGITS.sub('{n}', shard['before'])}{shard['number']}-of-{shard['count']}{shard['after']}"
    stem, dot, extension = name.rpartition(".")
    return f"{_DIGITS.sub('{n}', stem)}.{extension}" if dot and not extension.isdigit() else _DIGITS.sub("{n}", name)


def missing_shards(names: Iterable[str]) -> list[str]:
    """`model-00001-of-00003.safetensors` says that there are three."""
    series: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for name in names:
        found = _SHARD.fullmatch(name)
        if found and int(found["count"]) <= 1_000_000:
            series[found["before"], found["count"], found["after"]].add(int(found["number"]))
    missing = []
    for (before, count, after), numbers in series.items():
        first = 0 if 0 in numbers else 1  # TensorFlow counts from 0
        for number in range(first, first + int(count)):
            if number not in numbers:
                missing.append(f"{before}{number:0{len(count)}d}-of-{count}{after}")
                break  # one is enough to say so
    return missing


def lacking(
    names: frozenset[str], previous: frozenset[str], *, ranks: int | None = None, indexed: frozenset[str] = frozenset()
) -> list[str]:
    """What the previous checkpoint has and this one has not, apart from what a smaller number of processes explains.

    `ranks`: how many there are, as the launcher says. `indexed`: directories whose index names all parts in them, and all of
    these are there.
    """
    missing = [name for name in sorted(previous - names) if not _numbered_by_itself(name, names)]
    if not missing:
        return []
    before, now = (_ranks(name for name in some if not _is_part(name, indexed)) for some in (previous, names))
    sizes = {len(found) for found in now.values()}
    consistent = len(sizes) == 1 and all(
        found == set(range(min(found), min(found) + len(found))) for found in now.values()
    )
    shrunk = (
        consistent
        and before.keys() == now.keys()
        and (sizes == {ranks} or all(len(old) % len(now[key]) == 0 for key, old in before.items()))
    )
    worlds = _whole_worlds(names)
    resharded = not missing_shards(names)
    left = [
        name
        for name in missing
        if not (shrunk and _RANK.fullmatch(name))
        and not (resharded and _same_series(name, names))
        and not _is_part(name, indexed)
        and not ((found := _WORLD.fullmatch(name)) and (found["before"], found["after"]) in worlds)
    ]
    return _not_replaced(left, names, previous)


def _is_part(name: str, indexed: frozenset[str]) -> bool:
    return name.endswith(".distcp") and name.rpartition("/")[0] in indexed


def _whole_worlds(names: Iterable[str]) -> set[tuple[str, str]]:
    """Series like `model_world_size_6_rank_0.pt` in which every rank that they tell of is there."""
    worlds: dict[tuple[str, str], dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for name in names:
        if found := _WORLD.fullmatch(name):
            worlds[found["before"], found["after"]][int(found["world"])].add(int(found["number"]))
    return {
        series
        for series, sizes in worlds.items()
        if all(len(numbers) == size and max(numbers) == size - 1 for size, numbers in sizes.items())
    }


def _not_replaced(missing: list[str], names: frozenset[str], previous: frozenset[str]) -> list[str]:
    """Without those in whose places others have come: `model_loss_0.4.pt` for `model_loss_0.5.pt`, safetensors for `.bin`.

    A writer that dies leaves fewer files, not other ones. A small file is no replacement for a large one.
    """
    fresh = [
        name
        for name in names - previous
        if not _RANK.fullmatch(name) and not _same_series(name, previous) and not _numbered_by_itself(name, previous)
    ]
    found: list[str] = []
    for light in (False, True):
        lost = [name for name in missing if is_light(name) is light]
        came = [name for name in fresh if is_light(name) is light]
        found += [name for name in lost if not _TOLD_BY_THE_WAY.search(name)] if len(lost) > len(came) else []
    return sorted(found)


def is_light(name: str) -> bool:
    """No weights: settings, words, figures."""
    return name.lower().endswith(_LIGHT) or _TOLD_BY_THE_WAY.search(name) is not None


def _numbered_by_itself(name: str, names: frozenset[str]) -> bool:
    """Of `model-0.bin` … `model-3.bin` in each checkpoint, one has the step's number at step 1 and looks as if it were
    named by the step.
    """
    directory, slash, last = name.rpartition("/")
    blank = f"{directory}{slash}{_blank(last)}"
    if "{n}" not in last:
        return blank in names
    return any(
        other.startswith(f"{directory}{slash}") and _blank(other.rpartition("/")[2]) == last
        for other in names
        if other.count("/") == name.count("/")
    )


def _ranks(names: Iterable[str]) -> dict[tuple[str, str], set[int]]:
    series: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in names:
        found = _RANK.fullmatch(name)
        if found:
            series[found["before"], found["after"]].add(int(found["number"]))
    return series


def _same_series(name: str, names: Iterable[str]) -> bool:
    """Whether `name` is a shard of something that is here in another number of shards."""
    mine = _SHARD.fullmatch(name)
    others = (_SHARD.fullmatch(other) for other in names) if mine else ()
    return any(
        mine and other and (other["before"], other["after"]) == (mine["before"], mine["after"]) for other in others
    )
