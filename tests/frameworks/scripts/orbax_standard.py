"""Orbax as its tutorials have it: StandardSave of a state and JsonSave of where the data stands, composed in one step."""

from __future__ import annotations

import os
import pathlib

import jax
import orbax.checkpoint as ocp
from toy import arguments, say
from toy_jax import digest_of, fresh, train_step

given = arguments()
os.makedirs(given.directory, exist_ok=True)
state = fresh(given.width)
first = 1
with ocp.CheckpointManager(given.directory) as manager:
    if given.resume:
        step = int(pathlib.Path(given.resume).name)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        found = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
        state = found["state"]
        say(resumed=step, digest=digest_of(state))
        first = step + 1
    for step in range(first, given.steps + 1):
        state = train_step(state, step)
        parts = {"state": ocp.args.StandardSave(state), "data": ocp.args.JsonSave({"next": step + 1})}
        manager.save(step, args=ocp.args.Composite(**parts))
        say(saved=step, digest=digest_of(state))
