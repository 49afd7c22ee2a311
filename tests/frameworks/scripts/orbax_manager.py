"""Orbax: CheckpointManager, which names each step's directory by its number (`--prefix` puts a word before it)."""

from __future__ import annotations

import os
import pathlib

import jax
import orbax.checkpoint as ocp
from toy import arguments, say
from toy_jax import digest_of, fresh, train_step

given = arguments(asynchronous=False, no_ocdbt=False, keep=0, prefix="")
handler = ocp.PyTreeCheckpointHandler(use_ocdbt=not given.no_ocdbt, use_zarr3=not given.no_ocdbt)
options = ocp.CheckpointManagerOptions(
    enable_async_checkpointing=given.asynchronous, max_to_keep=given.keep or None, step_prefix=given.prefix or None
)
os.makedirs(given.directory, exist_ok=True)
state = fresh(given.width)
first = 1
with ocp.CheckpointManager(given.directory, options=options, item_handlers=handler) as manager:
    if given.resume:
        step = int(pathlib.Path(given.resume).name.rpartition("_")[2])
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        state = manager.restore(step, args=ocp.args.PyTreeRestore(target))
        say(resumed=step, digest=digest_of(state))
        first = step + 1
    for step in range(first, given.steps + 1):
        state = train_step(state, step)
        manager.save(step, args=ocp.args.PyTreeSave(state))
        if not given.asynchronous:
            manager.wait_until_finished()
        say(saved=step, digest=digest_of(state))
