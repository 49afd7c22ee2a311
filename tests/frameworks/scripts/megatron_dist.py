"""Megatron Core's distributed checkpoint, as `megatron.training.checkpointing` lays it out: iter_NNNNNNN, then the tracker.

Megatron-LM itself is not on PyPI; its training script is stood in for by the few lines below that make the directory and,
last, write latest_checkpointed_iteration.txt (save_checkpoint, "Update the latest iteration").
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing import ShardedTensor
from toy import arguments

given = arguments()
dist.init_process_group("gloo")
parallel_state.initialize_model_parallel()
rank, ranks = dist.get_rank(), dist.get_world_size()


def state(step: int) -> dict[str, object]:
    kernel = torch.full((given.width, given.width), float(step))
    return {
        "model": {"kernel": ShardedTensor.from_rank_offsets("kernel", kernel, (0, rank, ranks))},
        "iteration": step,
    }


for step in range(1, given.steps + 1):
    directory = os.path.join(given.directory, f"iter_{step:07d}")
    if rank == 0:
        os.makedirs(directory, exist_ok=True)
    dist.barrier()
    dist_checkpointing.save(state(step), directory)
    dist.barrier()
    if rank == 0:
        with open(os.path.join(given.directory, "latest_checkpointed_iteration.txt"), "w") as tracker:
            tracker.write(str(step))
dist.destroy_process_group()
