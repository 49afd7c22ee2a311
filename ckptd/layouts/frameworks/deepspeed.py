"""DeepSpeed: what the engine saves, and the universal checkpoints that are made of it."""

from __future__ import annotations

import re

from ckptd.layouts.frameworks.layout import Layout, Names, base, folder, hole, inside

_OPTIMIZER = re.compile(r"(?P<kind>(?:\w+?_)?)zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt", re.ASCII)
_ZERO3 = re.compile(r"zero_pp_rank_(\d+)_mp_rank_(\d+)_model_states\.pt", re.ASCII)
_MODEL = re.compile(r"mp_rank_(\d+)_model_states\.pt", re.ASCII)


class DeepSpeed(Layout):
    """`engine.save_checkpoint`: model states of each model-parallel rank, with ZeRO also optimizer states of each data-
    parallel one; zero_to_fp32.py beside. Then the first rank writes the pointer `latest`, without waiting for the files of the
    others: it is no marker, also where it lies inside (`checkpoint-5/global_step5/…`, `checkpoint-5/latest`). How many
    ranks there are is in the first one's optimizer states (layouts/requirements).
    """

    name = "deepspeed"
    places = ("global_step{step}/**",)
    pointers = frozenset({"latest", "latest_universal"})
    awaits_pointer = True

    def recognises(self, names: Names) -> bool:
        return any(name.endswith(("model_states.pt", "_optim_states.pt")) for name in names.all)

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        del previous
        for directory in sorted(names.folders):
            found = _missing_ranks([base(name) for name in names.all if folder(name) == directory])
            if found:
                return inside(directory, found)
        return None


def _missing_ranks(names: list[str]) -> str | None:
    """Of the files of one directory: a rank's that the others' names tell of."""
    model = {(int(found[1]),) for name in names if (found := _MODEL.fullmatch(name))}
    zero3 = {(int(found[1]), int(found[2])) for name in names if (found := _ZERO3.fullmatch(name))}
    kinds: dict[str, set[tuple[int, int]]] = {}
    for name in names:
        if found := _OPTIMIZER.fullmatch(name):
            kinds.setdefault(found["kind"], set()).add((int(found[2]), int(found[3])))
    optimizers = set[tuple[int, int]]().union(*kinds.values())
    kind = next(iter(sorted(kinds)), "")
    if (rank := hole(model)) is not None:
        return f"mp_rank_{rank[0]:02d}_model_states.pt"
    if (pair := hole(optimizers | zero3)) is not None:
        return f"{kind}zero_pp_rank_{pair[0]}_mp_rank_{pair[1]:02d}_optim_states.pt"
    if zero3 and (lacking := sorted(zero3 - optimizers)):
        return f"{kind}zero_pp_rank_{lacking[0][0]}_mp_rank_{lacking[0][1]:02d}_optim_states.pt"
    if zero3 and (lacking := sorted(optimizers - zero3)):
        return f"zero_pp_rank_{lacking[0][0]}_mp_rank_{lacking[0][1]:02d}_model_states.pt"
    piped = any(name.startswith("layer_") for name in names)
    if optimizers and not zero3 and not piped and (ranks := sorted({(mp,) for _, mp in optimizers} - model)):
        return f"mp_rank_{ranks[0][0]:02d}_model_states.pt"
    return None


class DeepSpeedUniversal(Layout):
    """ds_to_universal.py: slices under `tmp/`, merged into `zero/<parameter>/fp32.pt` and the optimizer's moments beside it,
    then mp_rank_XX_model_states.pt is copied, and at last the pointer `latest_universal` is written.
    """

    name = "deepspeed-universal"
    places = ("global_step{step}_universal/**",)
    pointers = frozenset({"latest_universal"})
    awaits_pointer = pointer_is_last = True
    _moments = frozenset({"fp32.pt", "exp_avg.pt", "exp_avg_sq.pt"})

    def recognises(self, names: Names) -> bool:
        return any(name.startswith("zero/") and base(name) in self._moments for name in names.all)

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        del previous
        parameters = {folder(name) for name in names.all if name.startswith("zero/") and base(name) in self._moments}
        bare = next((path for path in sorted(parameters) if f"{path}/fp32.pt" not in names.set), None)
        if bare:
            return f"{bare}/fp32.pt"
        copied = any(_MODEL.fullmatch(name) or name.startswith("layer_") for name in names.all)
        return None if copied else "mp_rank_00_model_states.pt"
