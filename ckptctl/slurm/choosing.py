"""Which run a job is about: the one that its comment names, else the one that it wrote before it was requeued, else a guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ckptctl.slurm import scontrol
from ckptctl.slurm.comment import Named, named, placeholders
from ckptctl.slurm.daemon import Daemon
from ckptctl.slurm.job import SlurmJob
from ckptd.domain.launch import printable_name


@dataclass(frozen=True, slots=True)
class Choice:
    named: Named
    sure: bool = True
    """The job named it or wrote it itself. A guess is made hot, but never told to the job: it may be another experiment."""


def choose(job: SlurmJob, daemon: Daemon) -> Choice | None:
    """None where nothing speaks for a run. Raises UsageError for a comment that makes no sense."""
    if placeholders(job.comment) and job.array_task is None:
        job = scontrol.complete(job, daemon.left_s)
    if (found := named(job.comment, values_of(job))) is not None:
        return Choice(found)
    written = daemon.jobs(job)
    if job.restarts and (own := of_job(written, job.id) or of_job(daemon.jobs(job, everywhere=True), job.id)):
        return Choice(own[0])
    if written and job.name is None:
        job = scontrol.complete(job, daemon.left_s)
    before = of_name(written, job)
    return Choice(before, sure=False) if before is not None else None


def values_of(job: SlurmJob) -> dict[str, str]:
    values = {"j": str(job.id), "u": str(job.uid)}
    if job.array_task is not None:
        values |= {"a": str(job.array_task), "A": str(job.id if job.array_job is None else job.array_job)}
    return values


def of_job(written: Sequence[Mapping[str, Any]], number: int) -> list[Named]:
    """The runs of one job, the last written first."""
    return [Named(one["volume"], one["run"]) for one in written if one["job"] == number]


def of_name(written: Sequence[Mapping[str, Any]], job: SlurmJob) -> Named | None:
    """The run that the user's last job of that name wrote; of an array, its task of that number."""
    name = printable_name(job.name or "")  # as it is recorded
    for one in written:
        if name and one["name"] == name and one["task"] == job.array_task:
            return Named(one["volume"], one["run"])
    return None
