"""How a job was launched, as far as the environment of one of its processes tells: over how many nodes, in how many ranks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    nodes: int
    """Nodes that the job runs on."""
    ranks: int | None = None
    """Processes of the job, over all nodes."""
    ranks_here: int | None = None
    """Of them on this node."""
    by: str = ""
    """The launcher: torchrun, slurm, openmpi, hydra."""


@dataclass(frozen=True, slots=True)
class Job:
    """The scheduler's job that a process belongs to. Compared by its number and user: what is said here is the user's own word,
    except where the process is in a control group of Slurm's.
    """

    id: int
    uid: int
    name: str = ""
    task: int | None = None
    """Its number in an array of jobs."""


@dataclass(frozen=True, slots=True)
class JobRun:
    """A run that a job wrote on this node."""

    volume: str
    run: str
    job: Job
    at: float
    """When it was last seen to begin a checkpoint, in seconds since the epoch."""


_SLURM_NODES = ("SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
"""The step's own first: `srun -N1` inside a job of 8 nodes runs on one."""
_MOST = 1_000_000
_LONGEST_NAME = 255


def launch_of(environment: Mapping[str, str]) -> Launch | None:
    """None where the variables of no launcher are there, or make no sense.

    torchrun stands first: it is often started by srun with one task a node, and knows the ranks that Slurm does not.
    Sources: torch.distributed.run ("Environment Variables"), srun(1) ("OUTPUT ENVIRONMENT VARIABLES"), Open MPI's FAQ
    ("environment variables that Open MPI sets at run time"), Hydra's PMI (`PMI_SIZE`, `MPI_LOCALNRANKS`).
    """
    return _torchrun(environment) or _openmpi(environment) or _slurm(environment) or _hydra(environment)


def job_of(environment: Mapping[str, str], cgroup: str, uid: int) -> Job | None:
    """None for a process of no Slurm job. `cgroup`: its `/proc/<pid>/cgroup`, where Slurm's plugin puts a `job_<number>`."""
    inside = re.search(r"/job_([0-9]{1,18})(?:/|$)", cgroup, re.MULTILINE)
    number = inside[1] if inside else environment.get("SLURM_JOB_ID", "")
    if not re.fullmatch(r"[0-9]{1,18}", number, re.ASCII):
        return None
    task = environment.get("SLURM_ARRAY_TASK_ID", "")
    name = printable_name(environment.get("SLURM_JOB_NAME", ""))
    return Job(int(number), uid, name, int(task) if re.fullmatch(r"[0-9]{1,9}", task, re.ASCII) else None)


def printable_name(name: str) -> str:
    """A job's name as it is recorded and shown: Slurm takes any bytes for one, and a manifest only what can be printed."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:_LONGEST_NAME])


def _torchrun(environment: Mapping[str, str]) -> Launch | None:
    ranks, here = _count(environment, "WORLD_SIZE"), _count(environment, "LOCAL_WORLD_SIZE")
    nodes = _count(environment, "GROUP_WORLD_SIZE")
    if nodes is None:
        nodes = _divided(ranks, here)
    return None if nodes is None else Launch(nodes, ranks, here, "torchrun")


def _openmpi(environment: Mapping[str, str]) -> Launch | None:
    ranks, here = _count(environment, "OMPI_COMM_WORLD_SIZE"), _count(environment, "OMPI_COMM_WORLD_LOCAL_SIZE")
    nodes = _divided(ranks, here)
    return None if nodes is None else Launch(nodes, ranks, here, "openmpi")


def _slurm(environment: Mapping[str, str]) -> Launch | None:
    nodes = next((found for name in _SLURM_NODES if (found := _count(environment, name)) is not None), None)
    if nodes is None:
        return None
    ranks = _count(environment, "SLURM_STEP_NUM_TASKS") or _count(environment, "SLURM_NTASKS")
    step = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE") or ""
    uniform = re.fullmatch(r"([0-9]{1,6})(?:\(x[0-9]+\))?", step)  # "8(x4)"; "8,4" says nothing about this node
    here = int(uniform[1]) if uniform and int(uniform[1]) else None
    return Launch(nodes, ranks, here, "slurm")


def _hydra(environment: Mapping[str, str]) -> Launch | None:
    ranks, here = _count(environment, "PMI_SIZE"), _count(environment, "MPI_LOCALNRANKS")
    nodes = _divided(ranks, here)
    return None if nodes is None else Launch(nodes, ranks, here, "hydra")


def _count(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 7:
        return None
    return int(text) if 0 < int(text) <= _MOST else None


def _divided(ranks: int | None, here: int | None) -> int | None:
    """Nodes that are not filled alike count as one more."""
    return None if ranks is None or here is None or here > ranks else -(-ranks // here)
