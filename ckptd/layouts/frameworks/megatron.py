"""Megatron-LM, and NeMo, which saves through it."""

from __future__ import annotations

import re

from ckptd.layouts.frameworks.layout import Layout, Names, base, folder, hole, inside
from ckptd.layouts.frameworks.torch import bare_parts

_RANK = re.compile(r"mp_rank_(\d+)(?:_(\d+))?(?:_(\d+))?", re.ASCII)


class Megatron(Layout):
    """`--ckpt-format torch`: `iter_N/mp_rank_<tensor>[_<pipeline>][_<expert>]/model_optim_rng.pt`, with the distributed
    optimizer also distrib_optim.pt. The pointer latest_checkpointed_iteration.txt is written last.
    """

    name = "megatron"
    places = ("iter_{step}/**",)
    pointers = frozenset({"latest_checkpointed_iteration.txt"})
    awaits_pointer = pointer_is_last = True
    _own = frozenset({"model_optim_rng.pt", "model_rng.pt", "distrib_optim.pt"})

    def recognises(self, names: Names) -> bool:
        return not names.bases.isdisjoint(self._own)

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        del previous
        for own in sorted(self._own & names.bases):
            directories = {folder(name) for name in names.all if base(name) == own}
            ranks: dict[tuple[int, ...], str] = {}
            for directory in sorted(directories):
                if found := _RANK.fullmatch(directory):
                    ranks[tuple(int(number) for number in found.groups() if number is not None)] = directory
            if len({len(rank) for rank in ranks}) == 1 and (absent := hole(ranks)):
                return f"mp_rank_{absent[0]:02d}{''.join(f'_{number:03d}' for number in absent[1:])}/{own}"
        if "distrib_optim.pt" in names.bases:
            model = "model_optim_rng.pt" if "model_optim_rng.pt" in names.bases else "model_rng.pt"
            ranked = [directory for directory in sorted(names.folders) if _RANK.fullmatch(directory)]
            both = (f"{directory}/{own}" for directory in ranked for own in (model, "distrib_optim.pt"))
            return next((name for name in both if name not in names.set), None)
        return None


def missing_in_dist_checkpoint(names: Names, directory: str = "") -> str | None:
    """dist_checkpointing.save writes common.pt first, then the parts, and metadata.json when all is there, "so that
    metadata.json is written only if the checkpoint is complete" (megatron/core/dist_checkpointing/serialization.py).
    """
    for own in ("common.pt", "metadata.json"):
        if inside(directory, own) not in names.set:
            return bare_parts(names) or inside(directory, own)
    return bare_parts(names)


class MegatronDistributed(Layout):
    """`--ckpt-format torch_dist` (the default) or zarr: dist_checkpointing."""

    name = "megatron-dist"
    places = ("iter_{step}/**",)
    markers = frozenset({"metadata.json"})
    pointers = frozenset({"latest_checkpointed_iteration.txt"})

    def recognises(self, names: Names) -> bool:
        return "common.pt" in names.set

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        del previous
        return missing_in_dist_checkpoint(names)


class NeMo(Layout):
    """NeMo 1: one `.nemo` (a tar) or `.ckpt`. NeMo 2: a directory with `weights/` (dist_checkpointing) and `context/`. A file
    `<name>-unfinished` stands beside it while it is saved, and is taken away at the end.
    """

    name = "nemo"
    places = ("checkpoints/*-step={step}-*/**", "*-step={step}.nemo")

    def recognises(self, names: Names) -> bool:
        return "weights/common.pt" in names.set or any(name.endswith(".nemo") for name in names.all)

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        del previous
        return missing_in_dist_checkpoint(names, "weights") if "weights/common.pt" in names.set else None
