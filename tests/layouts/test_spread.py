"""What the names of one node's files say about other nodes."""

from __future__ import annotations

import pytest

from ckptd.domain.launch import Launch
from ckptd.layouts.spread import elsewhere, is_spread

TWO = Launch(2, 16, 8, "torchrun")
EIGHT = Launch(8, 64, 8, "torchrun")
ONE_EACH = Launch(2, 2, 1, "torchrun")


def ranks(pattern: str, numbers: range) -> list[str]:
    return [pattern.format(number) for number in numbers]


ZERO = "zero_pp_rank_{}_mp_rank_00_optim_states.pt"
RNG = "rng_state_{}.pth"


@pytest.mark.parametrize(
    ("names", "launch", "lacks"),
    [
        (["model.safetensors", "config.json"], EIGHT, ""),  # rank 0 alone writes: whole on however many nodes
        (["pytorch_model.bin", "optimizer.pt", "trainer_state.json"], EIGHT, ""),
        ([".metadata", "__0_0.distcp"], EIGHT, ""),  # its index says what there is
        ([".metadata", *ranks("__{}_0.distcp", range(8))], None, ""),
        (ranks("__{}_0.distcp", range(8)), None, ""),  # the coordinator's node, before its marker
        (ranks("__{}_0.distcp", range(8)), TWO, "lacks .metadata"),
        (ranks("__{}_0.distcp", range(8, 16)), None, "lacks .metadata"),
        (["opt/.metadata", "model/__8_0.distcp"], None, "lacks model/.metadata"),
        (ranks(ZERO, range(8)), None, ""),
        (ranks(ZERO, range(8)), TWO, "lacks 8 of 16 ranks' zero_pp_rank_…"),
        (ranks(ZERO, range(16)), TWO, ""),
        (ranks(ZERO, range(8, 16)), None, "lacks zero_pp_rank_0…"),
        ([f"zero_pp_rank_{d}_mp_rank_0{m}_optim_states.pt" for d in range(8) for m in range(2)], TWO, ""),
        ([*ranks(RNG, range(8)), "trainer_state.json"], TWO, "lacks 8 of 16 ranks' rng_state_…"),
        ([*ranks(RNG, range(8)), "trainer_state.json"], Launch(1, 8, 8, "slurm"), ""),
        ([*ranks(RNG, range(8, 16))], None, "lacks rng_state_0…"),
        (["model.bin", "rng_state_0.pth"], EIGHT, ""),  # one of eight here: for all
        (["model.bin", "rng_state_0.pth"], ONE_EACH, "lacks 1 of 2 ranks' rng_state_…"),
        (["rank_0.pt"], ONE_EACH, ""),
        (["rank_0.pt", "rank_1.pt"], Launch(2, 4, 2), "lacks 2 of 4 ranks' rank_…"),
        (["rank_2.pt", "rank_3.pt"], None, ""),  # nobody's convention: says nothing by itself
        (["lora_rank8.safetensors"], TWO, ""),
        (ranks("model_world_size_16_rank_{}.pt", range(8)), None, "lacks model_world_size_16_rank_8…"),
        (ranks("model_world_size_8_rank_{}.pt", range(8)), None, ""),
        (["ocdbt.process_1/d/x", "manifest.ocdbt"], None, "lacks ocdbt.process_0…"),
        (["mp_rank_00/model_optim_rng.pt", "mp_rank_01/model_optim_rng.pt"], TWO, ""),
        (["mp_rank_02/model_optim_rng.pt"], None, "lacks mp_rank_00"),
        (["mp_rank_00_000/model_optim_rng.pt"], None, "lacks pipeline stage 1"),
        (["mp_rank_00_001/model_optim_rng.pt"], None, "lacks pipeline stage 0"),
        (["mp_rank_00_000/model_optim_rng.pt", "mp_rank_00_001/model_optim_rng.pt"], None, ""),
    ],
)  # fmt: skip
def test_what_names_say_to_be_elsewhere(names: list[str], launch: Launch | None, lacks: str) -> None:
    assert elsewhere(names, launch).split(",")[0] == lacks


@pytest.mark.parametrize(
    ("names", "spread"),
    [
        (["model.pt"], False),
        (["lora_rank8.safetensors"], False),
        (["zero/zero_pp_rank_3_mp_rank_00_optim_states.pt"], True),
        (["bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt"], True),
        (["mp_rank_00_model_states.pt"], False),
        (["iter_5/mp_rank_00/model_optim_rng.pt"], True),
        (["__0_0.distcp"], True),
        (["rank3/optim.pt"], True),
    ],
)
def test_which_checkpoints_ranks_write_together(names: list[str], spread: bool) -> None:
    assert is_spread(names) is spread
