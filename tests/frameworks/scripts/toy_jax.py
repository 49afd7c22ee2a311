"""The toy model of the scripts that train with JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from toy import digest

optimizer = optax.adam(1e-3)


def fresh(width: int) -> dict[str, Any]:
    parameters = {
        "first": {"kernel": jax.random.normal(jax.random.key(0), (width, width)), "bias": jnp.zeros(width)},
        "second": {"kernel": jax.random.normal(jax.random.key(1), (width, 1)), "bias": jnp.zeros(1)},
    }
    return {"parameters": parameters, "moments": optimizer.init(parameters), "step": 0}


def loss(parameters: Any, inputs: Any) -> Any:
    hidden = jnp.tanh(inputs @ parameters["first"]["kernel"] + parameters["first"]["bias"])
    found = hidden @ parameters["second"]["kernel"] + parameters["second"]["bias"]
    return jnp.mean((found - inputs.sum(axis=1, keepdims=True)) ** 2)


def train_step(state: dict[str, Any], step: int) -> dict[str, Any]:
    width = state["parameters"]["first"]["kernel"].shape[0]
    inputs = jax.random.normal(jax.random.key(step), (4, width))
    updates, moments = optimizer.update(jax.grad(loss)(state["parameters"], inputs), state["moments"])
    return {"parameters": optax.apply_updates(state["parameters"], updates), "moments": moments, "step": step}


def digest_of(state: dict[str, Any]) -> str:
    return digest(jax.tree.leaves(state))
