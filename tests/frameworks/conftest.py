from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from interpreter import with_frameworks
from scenarios import Scenario
from tests_node_fixtures import daemon, new_daemon
from training import Training

__all__ = ["daemon", "new_daemon"]

Train = Callable[..., Training]


@pytest.fixture
def train() -> Iterator[Train]:
    """Starts training scripts, and ends them with the test. Skips it where the framework is not installed."""
    started: list[Training] = []

    def start(scenario: Scenario, volume: Path, *arguments: str) -> Training:
        if scenario.distribution not in with_frameworks().versions:
            reason = f"{scenario.distribution} is not installed: make frameworks, or see tests/frameworks/README.md"
            if "frameworks" in os.environ.get("CKPTD_TEST_REQUIRE", "").split(",") and not scenario.heavy:
                pytest.fail(reason)
            pytest.skip(reason)
        started.append(Training(scenario, volume, *arguments))
        return started[-1]

    yield start
    for training in started:
        training.end()
