"""Whatever goes wrong with ckptd, or with what a user types: no node is drained and every job runs."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests_slurm_site import Site

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]


def runs(site: Site, *options: str, user: str | None = None, seconds: float = 10) -> int:
    """A job on n1 that runs as if there were no ckptd, its Prolog and Epilog within that time."""
    job = site.slurm.batch("echo ran", "--nodelist=n1", *options, user=user)
    site.slurm.until_ended(job)
    assert site.slurm.output(job).startswith("ran\n")
    for kind in ("prolog", "epilog"):
        ((_, took, code),) = site.slurm.calls(kind, job)
        assert code == 0, site.slurm.said(kind, job, "n1")
        assert took < seconds, site.slurm.said(kind, job, "n1")
    assert site.slurm.states() == ["idle", "idle"]
    return job


def test_a_dead_daemon(site: Site) -> None:
    site.daemons["n1"].crash()
    job = runs(site, "--comment=ckpt=run-42")
    assert "no daemon answers" in site.slurm.said("prolog", job, "n1")
    (site.daemons["n1"].home / "s").unlink()
    runs(site, "--comment=ckpt=run-42")


def test_a_daemon_that_died_while_the_job_ran(site: Site) -> None:
    site.checkpoint("n1", "run-42", 100)
    job = site.slurm.batch("echo started; sleep 4", "--nodelist=n1", "--comment=ckpt=run-42")
    site.slurm.until_said(job, "started")
    site.daemons["n1"].crash()
    site.slurm.until_ended(job)
    assert "no daemon answers" in site.slurm.said("epilog", job, "n1")
    assert site.slurm.calls("epilog", job)[0][2] == 0


def test_a_stopped_daemon_costs_a_job_seconds_and_not_its_budget(site: Site) -> None:
    worker = site.daemons["n1"].worker_pid()
    os.kill(worker, signal.SIGSTOP)
    try:
        job = runs(site, "--comment=ckpt=run-42", seconds=12)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert "does not answer" in site.slurm.said("prolog", job, "n1")


def test_a_ckptctl_that_is_not_there_or_hangs(site: Site) -> None:
    hangs = site.base / "hangs"
    hangs.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    hangs.chmod(0o755)
    broken = site.base / "broken"
    broken.write_text("#!/no/such/python\n")
    broken.chmod(0o755)
    for program in ("/no/such/ckptctl", broken, "/bin/false"):
        site.defaults("n1", CKPTCTL=program)
        runs(site, "--comment=ckpt=run-42")
    site.defaults("n1", CKPTCTL=hangs, CKPTD_PROLOG_BUDGET=1, CKPTD_EPILOG_BUDGET=1)
    runs(site, "--comment=ckpt=run-42")


HOSTILE = {
    "shell": "ckpt=$(touch${IFS}%(planted)s)`touch %(planted)s`;touch %(planted)s|touch %(planted)s&touch %(planted)s",
    "quotes": "ckpt='\"\\';touch %(planted)s;'",
    "path": "ckpt=../../etc",
    "absolute": "ckpt=/etc/passwd",
    "dots": "ckpt=..",
    "option": "ckpt=--socket=/tmp/x",
    "newline": "ckpt=run\nexport LD_PRELOAD=/tmp/evil.so",
    "control": "ckpt=\x1b]0;x\x07\x7f",
    "unicode": "ckpt=模型\u2028\u202e\U0001f4a3",
    "placeholder": "ckpt=%%a%%A%%z%%",
    "volume": "ckpt=nowhere:run",
    "colons": "ckpt=::::",
    "empty": "ckpt=",
    "step": "ckpt=run@99999999999999999999",
    "long": "ckpt=" + "x" * 1000,  # Slurm itself takes 1024 characters
    "words": "ckpt=a " * 140,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_comments(shared_site: Site, kind: str) -> None:
    planted = shared_site.base / "planted"
    comment = HOSTILE[kind] % {"planted": planted} if "%" in HOSTILE[kind] else HOSTILE[kind]
    job = runs(shared_site, f"--comment={comment}", user="games")
    said = shared_site.slurm.said("prolog", job, "n1")
    assert said.startswith(f"job {job}: ")
    assert said.count("\n") == 1
    assert "unexpected" not in said
    assert not planted.exists()
    assert shared_site.records("n1") == []


def by_hand(site: Site, comment: str, **defaults: str) -> subprocess.CompletedProcess[str]:
    """The Prolog, as it would be run on a cluster with other limits or settings than this one."""
    lines = (site.slurm.folder / "n1.defaults").read_text().splitlines()
    lines += [f"{name}={value}" for name, value in defaults.items()]
    (site.base / "by-hand").write_text("\n".join(lines) + "\n")
    environment = {"SLURM_JOB_ID": "1", "SLURM_JOB_UID": "0", "SLURM_JOB_COMMENT": comment}
    script = Path(__file__).parents[2] / "packaging/slurm/prolog.d/50-ckptd"
    return site.slurm.run(
        str(script), environment=environment | {"CKPTD_DEFAULTS": f"{site.base}/by-hand"}, check=False
    )


@pytest.mark.parametrize("comment", ["ckpt=" + "x" * 10_000, "ckpt=a " * 10_000, "ckpt=\udcff\udc80"])
def test_comments_that_this_slurm_refuses_itself(shared_site: Site, comment: str) -> None:
    done = by_hand(shared_site, comment)
    assert done.returncode == 0
    assert done.stdout.startswith("job 1: ")
    assert "unexpected" not in done.stdout


def test_a_failure_is_an_exit_code_where_that_is_asked_for(shared_site: Site) -> None:
    """It drains the node then, as it should."""
    for strict, code in (("0", 0), ("1", 2)):
        done = by_hand(shared_site, "ckpt=../x", CKPTD_STRICT=strict)
        assert done.returncode == code, done.stdout
