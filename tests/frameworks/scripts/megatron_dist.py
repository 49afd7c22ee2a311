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


def state(step: int, width: int) -> dict[str, object]:
    kernel = torch.full((width, width), float(step))
    offset = (0, dist.get_rank(), dist.get_world_size())
    return {"model": {"kernel": ShardedTensor.from_rank_offsets("kernel", kernel, offset)}, "iteration": step}


def main() -> None:
    given = arguments()
    if not torch.cuda.is_available():
        torch.cuda.synchronize = lambda *_: None  # called before tensors are written, wherever they are
        torch.cuda.current_device = lambda: "cpu"  # where the writers' results are reduced
    dist.init_process_group("gloo")
    parallel_state.initialize_model_parallel()
    for step in range(1, given.steps + 1):
        directory = os.path.join(given.directory, f"iter_{step:07d}")
        if dist.get_rank() == 0:
            os.makedirs(directory, exist_ok=True)
        dist.barrier()
        dist_checkpointing.save(state(step, given.width), directory)
        dist.barrier()
        if dist.get_rank() == 0:
            with open(os.path.join(given.directory, "latest_checkpointed_iteration.txt"), "w") as tracker:
                tracker.write(str(step))
    dist.destroy_process_group()


if __name__ == "__main__":  # its writers are processes of their own, which import this
    main()
