"""flax.training.checkpoints, msgpack files: checkpoint_N, renamed into place; the older ones are removed (`--keep`)."""

from __future__ import annotations

import os

import flax
from flax import serialization
from flax.training import checkpoints
from toy import arguments, say
from toy_jax import digest_of, fresh, train_step

flax.config.update("flax_use_orbax_checkpointing", False)
given = arguments(keep=10)
state = fresh(given.width)
first = 1
if given.resume:
    state = checkpoints.restore_checkpoint(given.resume, serialization.to_state_dict(state) and state)
    first = int(state["step"]) + 1
    say(resumed=first - 1, digest=digest_of(state))
os.makedirs(given.directory, exist_ok=True)
for step in range(first, given.steps + 1):
    state = train_step(state, step)
    checkpoints.save_checkpoint(given.directory, state, step, keep=given.keep)
    say(saved=step, digest=digest_of(state))
