"""The job that Slurm's Prolog or Epilog is run for, read from their environment.

https://slurm.schedmd.com/prolog_epilog.html names the variables. The user's own environment is not among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ckptd.domain.errors import UsageError

_HOST = re.compile(r"([^,\[]*)(?:\[([0-9]+)[^\]]*\]([^,]*))?")


@dataclass(frozen=True, slots=True)
class SlurmJob:
    id: int
    uid: int
    gid: int | None
    """Its group; None where this Slurm does not say it."""
    comment: str
    node: str
    nodes: int
    first: bool
    """This node is the job's first, where a batch script runs."""
    restarts: int
    """How often it was requeued."""
    ends_at: float | None
    """By its time limit, in seconds since the epoch; None where this Slurm does not say it."""
    name: str | None
    array_job: int | None
    array_task: int | None
    stderr: str | None
    """The last four are told by some versions only; else `scontrol` knows them."""


def job_of(environ: Mapping[str, str]) -> SlurmJob:
    """Raises UsageError outside of a Prolog or Epilog."""
    number, uid = _number(environ, "SLURM_JOB_ID"), _number(environ, "SLURM_JOB_UID")
    if number is None or uid is None:
        raise UsageError(
            "SLURM_JOB_ID and SLURM_JOB_UID are not set", hint="slurmd sets them for Prolog and Epilog: docs/slurm.md"
        )
    hosts = environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST") or ""
    node = environ.get("SLURMD_NODENAME", "")
    return SlurmJob(
        id=number,
        uid=uid,
        gid=_number(environ, "SLURM_JOB_GID"),
        comment=environ.get("SLURM_JOB_COMMENT", ""),
        node=node,
        nodes=_number(environ, "SLURM_JOB_NUM_NODES") or 1,
        first=first_of(hosts) in ("", node),
        restarts=_number(environ, "SLURM_JOB_RESTART_COUNT") or 0,
        ends_at=_number(environ, "SLURM_JOB_END_TIME"),
        name=environ.get("SLURM_JOB_NAME"),
        array_job=_number(environ, "SLURM_ARRAY_JOB_ID"),
        array_task=_number(environ, "SLURM_ARRAY_TASK_ID"),
        stderr=_log(environ.get("SLURM_JOB_STDERR", ""), number),
    )


def first_of(hosts: str) -> str:
    """The first name of a host list: `gpu-[003-007,9],head` is `gpu-003`."""
    found = _HOST.match(hosts)
    return "".join(part or "" for part in found.groups()) if found else ""


def _log(pattern: str, job: int) -> str | None:
    """None where it has other placeholders than `%j`, which Slurm 22.05 hands over as they were typed."""
    path = pattern.replace("%j", str(job))
    return path if path and "%" not in path else None


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None
