"""torch.distributed.checkpoint of a model sharded over all processes (FSDP2 on CPUs), started by torchrun.

`--nested` saves model and optimizer each on its own, below the step; `--asynchronous` is dcp.async_save.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from toy import arguments, say
from toy_torch import digest_of, model, train_step

given = arguments(asynchronous=False, nested=False)
dist.init_process_group("gloo" if not given.asynchronous else "cpu:gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
net = model(given.width)
fully_shard(net, mesh=mesh)
optimizer = torch.optim.Adam(net.parameters())
first = 1


def current(step: int) -> dict[str, object]:
    parameters, moments = get_state_dict(net, optimizer)
    return {"model": parameters, "optimizer": moments, "step": torch.tensor(step)}


def whole(found: object) -> object:
    if isinstance(found, DTensor):
        return found.full_tensor()
    return {key: whole(value) for key, value in found.items()} if isinstance(found, dict) else found


def tell(**what: int) -> None:
    state = whole(current(0))
    if dist.get_rank() == 0:
        say(**what, digest=digest_of(state))


def save(step: int) -> object:
    state, path = current(step), os.path.join(given.directory, f"step-{step}")
    if given.nested:
        for part in ("model", "optimizer"):
            dcp.save({part: state[part]}, checkpoint_id=os.path.join(path, part))
        return None
    if given.asynchronous:
        return dcp.async_save(state, checkpoint_id=path)
    dcp.save(state, checkpoint_id=path)
    return None


if given.resume:
    train_step(net, optimizer, 0, given.width)  # makes the optimizer's state, to be loaded into
    state = current(0)
    dcp.load(state, checkpoint_id=given.resume)
    set_state_dict(net, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    first = int(state["step"]) + 1
    tell(resumed=first - 1)

for step in range(first, given.steps + 1):
    train_step(net, optimizer, step, given.width)
    pending = save(step)
    if pending is not None:
        pending.result()
    tell(saved=step)
dist.destroy_process_group()
