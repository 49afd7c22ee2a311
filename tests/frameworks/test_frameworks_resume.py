"""A job is killed in the middle of a save and goes on elsewhere: from the newest whole checkpoint, with the same state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scenarios import RUN, SCENARIOS, Scenario
from tests_node_daemon import Daemon
from training import Training, has, killed_in_a_save, renamed, whole_zip

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]
"""Importing a framework takes seconds, twice in each test, and several times that on a busy machine."""

WHOLE: dict[str, Callable[[Path], bool]] = {
    "torch-straight": whole_zip,
    "torch-dcp-sync": has(".metadata"),
    "hf-trainer-plain": has("trainer_state.json"),
    "lightning-every-step": whole_zip,
    "orbax-sync": renamed,
    "keras-whole": whole_zip,
}
"""What the framework itself takes for a finished save."""
WIDTH = {"hf-trainer-plain": "256"}


@pytest.mark.parametrize("scenario", [pytest.param(found, id=found.name) for found in SCENARIOS if found.name in WHOLE])
def test_a_killed_job_resumes_elsewhere_from_the_last_whole_checkpoint(
    scenario: Scenario, new_daemon: Callable[..., Daemon], train: Callable[..., Training]
) -> None:
    wide = ("--width", WIDTH.get(scenario.name, "1024"))
    first = new_daemon(node="a", ram_budget="4GiB", nvme_budget="4GiB")
    first.start()
    training = train(scenario, first.volume, *wide, "--steps", "200")
    half = killed_in_a_save(training, first.volume / RUN, WHOLE[scenario.name], after=2)
    last = half - 1
    first.state_is(RUN, half, "torn")
    first.committed(RUN, last)
    assert not (first.remote / f".ckptd/manifests/{RUN}/{half}").exists()
    assert first.json("latest", RUN)["step"] == last
    first.ctl("prefetch", f"{RUN}@{half}", check=6)
    digests = {said["saved"]: said["digest"] for said in training.said() if "saved" in said}
    first.crash()

    second = new_daemon(node="b", remote=first.remote_url)
    second.start()
    second.ctl("prefetch", RUN)
    second.ctl("prefetch", f"{RUN}@{half}", check=4)
    latest = second.ctl("latest", RUN).stdout.strip()
    resumed = train(scenario, second.volume, *wide, "--steps", str(half), "--resume", latest).finish()
    assert resumed[0] == {"resumed": last, "digest": digests[last]}
    assert second.committed(RUN, half)["framework"] == scenario.expected
