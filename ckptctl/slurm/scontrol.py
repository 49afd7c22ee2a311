"""What only `scontrol show job` tells, in versions of Slurm that do not hand it to Prolog and Epilog.

It is a question to slurmctld, which Slurm advises against in a Prolog: asked only for jobs that need it.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ckptctl.slurm.job import SlurmJob

_ANSWER_S = 5.0


def complete(job: SlurmJob, left_s: float) -> SlurmJob:
    """With name, array and log file, as far as they can be had within `left_s` seconds."""
    import subprocess  # noqa: PLC0415 - most jobs do without, and it takes 10 ms to import

    try:
        done = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", str(job.id)],
            capture_output=True, check=False, timeout=max(0.1, min(_ANSWER_S, left_s)), stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return job
    return parsed(job, done.stdout.decode(errors="surrogateescape"))


def parsed(job: SlurmJob, text: str) -> SlurmJob:
    """From lines of `Key=value` pairs, whose values may have spaces: for the number of an array, one line a task.

    A job may be called anything, also `x StdErr=y`: what comes out is used with the rights of the job's own user only.
    """
    line = next((line for line in text.split("\n") if line.startswith(f"JobId={job.id} ")), "")
    found = dict(re.findall(r"(\w+)=(.*?)(?=\s+\w[\w/:]*=|\s*$)", line))
    return replace(
        job,
        name=found.get("JobName", job.name),
        array_job=_number(found.get("ArrayJobId", "")) if job.array_job is None else job.array_job,
        array_task=_number(found.get("ArrayTaskId", "")) if job.array_task is None else job.array_task,
        stderr=found.get("StdErr") or job.stderr,
    )


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None
