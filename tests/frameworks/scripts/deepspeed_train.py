"""DeepSpeed with ZeRO on CPUs over gloo, started by torchrun: `engine.save_checkpoint`, which writes `latest` last."""

from __future__ import annotations

import os

import deepspeed
import torch
import torch.distributed as dist
from toy import arguments, say
from toy_torch import batch, digest_of, model

given = arguments(stage=1, tag="", exclude_frozen=False)
deepspeed.init_distributed("gloo")
bare = model(given.width)
engine, optimizer, _, _ = deepspeed.initialize(
    model=bare,
    optimizer=torch.optim.Adam(bare.parameters()),
    config={
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": given.stage, "offload_optimizer": {"device": "none"}},
        "zero_force_ds_cpu_optimizer": False, "zero_allow_untested_optimizer": True,
    },
)  # fmt: skip
first = 1


def tell(**what: int) -> None:
    if dist.get_rank() == 0:
        say(**what, digest=digest_of(optimizer.state_dict()))


if given.resume:
    path, _ = engine.load_checkpoint(os.path.dirname(given.resume), os.path.basename(given.resume))
    first = engine.global_steps + 1
    tell(resumed=first - 1)
for step in range(first, given.steps + 1):
    inputs, targets = batch(step, given.width)
    engine.backward(torch.nn.functional.mse_loss(engine(inputs), targets))
    engine.step()
    engine.save_checkpoint(given.directory, tag=f"{given.tag}{step}" if given.tag else None)
    tell(saved=step)
dist.destroy_process_group()
