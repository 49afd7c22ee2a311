"""What is larger or slower than the time that Prolog and Epilog have, and what is left on the node afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_node_daemon import MIB
from tests_slurm_site import CKPTCTL, SAVE, Site

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

PACKAGING = Path(__file__).parents[2] / "packaging/slurm"


def test_what_is_not_hot_in_time_comes_while_the_job_runs(new_site: Callable[..., Site]) -> None:
    site = new_site(transfer='bandwidth = "2MiB"\npart_size = "5MiB"', budget=1)
    site.checkpoint("n2", "run-42", 100, size=16 * MIB)
    job = site.slurm.batch("echo started; sleep 60", "--nodelist=n1", "--comment=ckpt=run-42")
    site.slurm.until_said(job, "started")
    ((_, took, code),) = site.slurm.calls("prolog", job)
    assert (code, took < 5) == (0, True)
    assert "the prefetch goes on" in site.slurm.said("prolog", job, "n1")
    assert not site.hot("n1", "run-42", 100)
    assert site.pinned("n1", "run-42", 100)
    site.daemons["n1"].until(lambda: site.hot("n1", "run-42", 100), "it is hot", 60)


def test_what_is_not_durable_in_time_is_said_and_sent_later(site: Site) -> None:
    site.defaults("n1", CKPTD_EPILOG_BUDGET=5)
    away = site.base / "away"
    site.daemons["n1"].remote.rename(away)
    script = SAVE + 'save "$CKPTD_VOLUME/$CKPTD_RUN/checkpoint-5"'
    job = site.slurm.batch(script, "--nodelist=n1", "--comment=ckpt=run-5")
    site.slurm.until_ended(job)
    ((_, took, code),) = site.slurm.calls("epilog", job)
    assert (code, took < 10) == (0, True)
    assert "run-5 is NOT durable yet: 976.6 KiB in 2 files, newest 5" in site.slurm.output(f"{job}.err")
    (event,) = site.events("n1", "slurm.epilog")
    assert event["level"] == "warning"
    assert event["fields"]["exposed_bytes"] == str(1_000_000 + len('{"step": 1}'))
    away.rename(site.daemons["n1"].remote)
    site.daemons["n1"].committed("run-5", 5, 60)


def test_the_node_is_left_empty_where_that_is_asked_for(site: Site) -> None:
    site.defaults("n1", CKPTD_EPILOG_EVICT=1)
    script = SAVE + 'for step in 1 2; do save "$CKPTD_VOLUME/$CKPTD_RUN/checkpoint-$step"; done'
    job = site.slurm.batch(script, "--nodelist=n1", "--comment=ckpt=run-5")
    site.slurm.until_ended(job)
    for step in (1, 2):
        found = site.daemons["n1"].checkpoint("run-5", step)
        assert found is not None
        assert (found["state"], found["hot_bytes"]) == ("committed", 0)


def test_what_another_job_of_the_node_wants_is_not_dropped(site: Site) -> None:
    site.defaults("n1", CKPTD_EPILOG_EVICT=1)
    script = SAVE + 'save "$CKPTD_VOLUME/$CKPTD_RUN/checkpoint-1"; echo saved; sleep 60'
    first = site.slurm.batch(script, "--nodelist=n1", "--comment=ckpt=run-5")
    site.slurm.until_said(first, "saved")
    site.daemons["n1"].committed("run-5", 1)
    second = site.slurm.batch("echo started; sleep 60", "--nodelist=n1", "--comment=ckpt=run-5")
    site.slurm.until_said(second, "started")
    site.slurm.run("scancel", str(first))
    site.slurm.until_cleared(first, "n1")
    assert site.hot("n1", "run-5", 1)
    assert site.pinned("n1", "run-5", 1)
    site.slurm.run("scancel", str(second))
    site.slurm.until_cleared(second, "n1")
    assert site.hot("n1", "run-5", 1), "the second has only read it"


TRAIN = """
import argparse, pathlib, signal, sys, time
asked = argparse.ArgumentParser()
asked.add_argument("--output-dir"), asked.add_argument("--resume")
asked = asked.parse_args()
began = int(asked.resume.rpartition("-")[2]) if asked.resume else 0
assert not began or (pathlib.Path(asked.resume) / "model.bin").read_bytes() == b"x" * 100_000

def save(step):
    folder = pathlib.Path(asked.output_dir) / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"x" * 100_000)
    (folder / "trainer_state.json").write_text("{}")
    print("saved", step, flush=True)

def stop(*_):
    save(began + 2)
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
save(began + 1)
while not began:
    time.sleep(0.1)
"""


def test_the_example_of_the_package_goes_on_where_it_was_told_to_stop(site: Site) -> None:
    """As before a time limit, or when it is preempted: SIGTERM to the script."""
    work = site.base / "work"
    work.mkdir()
    (work / "train.py").write_text(TRAIN)
    example = (PACKAGING / "train.sbatch").read_text().removeprefix("#!/bin/bash\n")
    tools = f"{CKPTCTL.parent}:{Path(sys.executable).parent}:{site.slurm.environment['PATH']}"
    environment = {"PATH": tools, "CKPTD_SOCKET": str(site.daemons["n1"].home / "s")}
    (work / "train.sbatch").write_text(f"#!/bin/bash\n{example}")
    out = site.slurm.folder / "out/%j"
    done = site.slurm.run(
        "sbatch", "--parsable", f"--output={out}", f"--chdir={work}", "--nodelist=n1", str(work / "train.sbatch"),
        environment=environment,
    )  # fmt: skip
    job = int(done.stdout)
    site.slurm.until_said(job, "saved 1")
    site.slurm.run("scancel", "--batch", "--signal=TERM", str(job))
    site.slurm.until_said(job, "saved 3")
    site.slurm.until_ended(job)
    assert "not prefetched" not in site.slurm.output(job)
    said = [line for line in site.slurm.output(job).splitlines() if line.startswith(("saved", "ckptd:"))]
    assert said == [
        "saved 1",
        "saved 2",
        "ckptd: run-42 is durable, newest 2",
        "saved 3",
        "ckptd: run-42 is durable, newest 3",
    ]
