"""Training scripts of real frameworks, none of which knows of ckptd: each checkpoint is recognised and committed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scenarios import RUN, SCENARIOS, Scenario
from tests_node_daemon import Daemon
from training import Training

CHOSEN = (
    "torch-linked", "torch-dcp-async", "torch-dcp-nested", "hf-trainer-sharded", "hf-trainer-rotating",
    "accelerate-automatic", "lightning-last-link", "lightning-last-file", "orbax-async", "orbax-no-ocdbt", "flax-legacy",
    "keras-whole", "keras-weights", "tensorflow-rotating", "deepspeed-zero3",
)  # fmt: skip
"""Each way to write is run once; the rest are recorded trees only."""


def marked(scenario: Scenario) -> object:
    return pytest.param(scenario, id=scenario.name, marks=() if scenario.heavy else pytest.mark.frameworks)


@pytest.mark.parametrize("scenario", [marked(found) for found in SCENARIOS if found.name in CHOSEN])
def test_each_checkpoint_is_committed(scenario: Scenario, daemon: Daemon, train: Callable[..., Training]) -> None:
    train(scenario, daemon.volume).finish()
    for step in scenario.steps:
        found = daemon.committed(RUN, step)
        assert found["framework"] == scenario.expected
        assert found["durable_bytes"] == found["bytes"] > 0
    latest = daemon.json("latest", RUN)
    assert (latest["step"], latest["state"]) == (scenario.steps[-1], "committed")
