"""Which checkpoints are written by the ranks of every node, and what their names say to be on other nodes.

Most jobs save from rank 0 alone, on however many nodes they run: such a checkpoint is never waited for. Where each rank
writes files of its own, their names carry its number.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ckptd.domain.launch import Launch

_EVERY_RANK = re.compile(
    r"(?P<before>(?:.*/)?(?:\w*zero_pp_rank_|rng_state_|random_states_|ocdbt\.process_|\w*world_size_(?P<world>\d+)_rank_))"
    r"(?P<number>\d{1,5})(?P<after>\D.*|$)"
)
"""Names that frameworks give to files of which *every* rank writes one: DeepSpeed, Trainer, Accelerate, Orbax, verl."""
_SOME_RANK = re.compile(r"(?P<before>(?:.*/)?rank[-_]?)(?P<number>\d{1,5})(?P<after>[/.].*|$)")
"""`rank_3.pt`: mostly one a rank, but it is nobody's convention: counted only where the launcher says how many there are."""
_DCP = re.compile(r"(?:.*/)?__(?P<number>\d{1,5})_\d+\.distcp")
_MODEL_PARALLEL = re.compile(r"(?:.*/)?mp_rank_(?P<tensor>\d{2,5})(?:_(?P<stage>\d{3,5}))?(?:_\d{3,5})?/.*")
"""Megatron: only the first data-parallel replica writes; the stage is named where there is more than one."""


def base(name: str) -> str:
    return name.rpartition("/")[2]


def folder(name: str) -> str:
    return name.rpartition("/")[0]


@dataclass(slots=True)
class _Series:
    example: str
    numbers: set[int]
    files: int = 0
    world: int | None = None


def is_spread(names: Iterable[str]) -> bool:
    """Whether, by its names, ranks write parts of their own."""
    return any(
        _DCP.fullmatch(name) or base(name) in {".metadata", "manifest.ocdbt"} or _MODEL_PARALLEL.fullmatch(name)
        or _EVERY_RANK.fullmatch(name) or _SOME_RANK.fullmatch(name)
        for name in names
    )  # fmt: skip


def elsewhere(names: Sequence[str], launch: Launch | None = None) -> str:
    """What other nodes must have, as far as names tell ("lacks …"); "" if nothing speaks for other nodes.

    `names` are relative to the checkpoint. An index that is there (DCP's `.metadata`) knows better: what it names is
    `Member.requires`.
    """
    return (
        _unindexed(names, launch)
        or _first_ranks(names)
        or _model_parallel(names)
        or (_ranks(names, launch) if launch else "")
    )


def _unindexed(names: Sequence[str], launch: Launch | None) -> str:
    """DCP's coordinator is rank 0 of the whole job and writes `.metadata`: files of higher ranks without it are a part."""
    marked = {folder(name) for name in names if base(name) == ".metadata"}
    ranks: dict[str, set[int]] = defaultdict(set)
    for name in names:
        if (found := _DCP.fullmatch(name)) and folder(name) not in marked:
            ranks[folder(name)].add(int(found["number"]))
    for directory, numbers in sorted(ranks.items()):
        if min(numbers) > 0 or (launch is not None and launch.nodes > 1):
            return f"lacks {directory}/.metadata".replace(" /", " ")
    return ""


def _first_ranks(names: Sequence[str]) -> str:
    for before, series in sorted(_series(names, _EVERY_RANK).items()):
        missing = set(range(max(series.numbers))) - series.numbers
        if series.world is not None:
            missing |= set(range(series.world)) - series.numbers
        if missing:
            return f"lacks {base(before)}{min(missing)}…, {base(series.example)} is here"
    return ""


def _model_parallel(names: Sequence[str]) -> str:
    found = [match for name in names if (match := _MODEL_PARALLEL.fullmatch(name))]
    tensors = {int(match["tensor"]) for match in found}
    stages = {int(match["stage"]) for match in found if match["stage"] is not None}
    if tensors and (missing := set(range(max(tensors))) - tensors):
        return f"lacks mp_rank_{min(missing):02d}"
    if stages and (missing := set(range(max(1, *stages) + 1)) - stages):
        return f"lacks pipeline stage {min(missing)}"
    return ""


def _ranks(names: Sequence[str], launch: Launch) -> str:
    """Fewer ranks than the job has. Rank 0 alone, where this node has more ranks, writes for all."""
    if launch.nodes < 2 or launch.ranks is None:
        return ""
    for pattern in (_EVERY_RANK, _SOME_RANK):
        for before, series in sorted(_series(names, pattern).items()):
            count = series.files if "zero_pp_rank_" in before else len(series.numbers)
            alone = series.numbers == {0} and (pattern is _SOME_RANK or (launch.ranks_here or 1) > 1)
            if count < launch.ranks and not alone:
                return f"lacks {launch.ranks - count} of {launch.ranks} ranks' {base(before)}…"
    return ""


def _series(names: Iterable[str], pattern: re.Pattern[str]) -> dict[str, _Series]:
    found: dict[str, _Series] = {}
    seen: dict[str, set[str]] = defaultdict(set)
    for name in names:
        match = pattern.fullmatch(name)
        if match is None:
            continue
        before, number = match["before"], int(match["number"])
        series = found.setdefault(before, _Series(name, set()))
        series.numbers.add(number)
        seen[before].add(f"{number}{match['after']}")
        series.files = len(seen[before])
        if "world" in pattern.groupindex and match["world"] is not None:
            series.world = min(int(match["world"]), 1_000_000)
    return found
