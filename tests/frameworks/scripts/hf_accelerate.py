"""accelerate: Accelerator.save_state, with automatic names (checkpoints/checkpoint_N) or the script's own (step_N)."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from toy import arguments, say
from toy_torch import batch, digest_of, model

given = arguments(automatic=False, keep=0)
accelerator = Accelerator(
    cpu=True,
    project_config=ProjectConfiguration(
        given.directory, automatic_checkpoint_naming=given.automatic, total_limit=given.keep or None
    ),
)
bare = model(given.width)
net, optimizer = accelerator.prepare(bare, torch.optim.Adam(bare.parameters()))
scheduler = accelerator.prepare(torch.optim.lr_scheduler.StepLR(optimizer, 10))
first = 1
if given.resume:
    accelerator.load_state(given.resume)
    first = int(given.resume.rpartition("_")[2]) + 1
    say(resumed=first - 1, digest=digest_of(net.state_dict(), optimizer.state_dict()))
for step in range(first, given.steps + 1):
    inputs, targets = batch(step, given.width)
    optimizer.zero_grad()
    accelerator.backward(torch.nn.functional.mse_loss(net(inputs), targets))
    optimizer.step()
    scheduler.step()
    accelerator.save_state(None if given.automatic else os.path.join(given.directory, f"step_{step}"))
    say(saved=step, digest=digest_of(net.state_dict(), optimizer.state_dict()))
