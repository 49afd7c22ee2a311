"""Ray Train with torch on one CPU worker: `ray.train.report` with a checkpoint, copied by Ray into the storage path.

Since its version 2 it names checkpoints by the time, unless the script gives names itself.
"""

from __future__ import annotations

import os
import tempfile

import ray
import torch
from ray.train import Checkpoint, CheckpointConfig, RunConfig, ScalingConfig, get_checkpoint, report
from ray.train.torch import TorchTrainer
from toy import arguments
from toy_torch import model, train_step

given = arguments(keep=0)


def loop(config: dict[str, int]) -> None:
    net = model(config["width"])
    optimizer = torch.optim.Adam(net.parameters())
    first = 1
    if get_checkpoint():
        with get_checkpoint().as_directory() as path:
            state = torch.load(os.path.join(path, "state.pt"))
            net.load_state_dict(state["model"])
            first = state["step"] + 1
    for step in range(first, config["steps"] + 1):
        train_step(net, optimizer, step, config["width"])
        with tempfile.TemporaryDirectory() as path:
            torch.save({"model": net.state_dict(), "step": step}, os.path.join(path, "state.pt"))
            report({"step": step}, checkpoint=Checkpoint.from_directory(path))


here = os.path.dirname(os.path.abspath(__file__))
ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": here}})
TorchTrainer(
    loop,
    train_loop_config={"steps": given.steps, "width": given.width},
    scaling_config=ScalingConfig(num_workers=1),
    run_config=RunConfig(
        name=os.path.basename(given.directory), storage_path=os.path.dirname(given.directory),
        checkpoint_config=CheckpointConfig(num_to_keep=given.keep or None),
    ),
).fit()  # fmt: skip
