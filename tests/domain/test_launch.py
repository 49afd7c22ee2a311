"""What the environment of a job's process says about its nodes."""

from __future__ import annotations

import pytest

from ckptd.domain.launch import Job, Launch, job_of, launch_of


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, None),
        ({"HOME": "/root", "WORLD_SIZE": "8"}, None),  # how many are here is not said
        ({"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}, Launch(2, 16, 8, "torchrun")),
        ({"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2"}, Launch(2, 16, 8, "torchrun")),
        ({"WORLD_SIZE": "12", "LOCAL_WORLD_SIZE": "8"}, Launch(2, 12, 8, "torchrun")),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "8"}, None),
        ({"WORLD_SIZE": "many", "LOCAL_WORLD_SIZE": "8"}, None),
        ({"WORLD_SIZE": "²", "LOCAL_WORLD_SIZE": "1"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, Launch(2, 8, 4, "openmpi")),
        ({"SLURM_JOB_NUM_NODES": "4"}, Launch(4, None, None, "slurm")),
        ({"SLURM_NNODES": "4", "SLURM_NTASKS": "32", "SLURM_TASKS_PER_NODE": "8(x4)"}, Launch(4, 32, 8, "slurm")),
        ({"SLURM_NNODES": "2", "SLURM_NTASKS": "12", "SLURM_TASKS_PER_NODE": "8,4"}, Launch(2, 12, None, "slurm")),
        # One node with 8 tasks is one node; and so is `srun -N1` in a job of 8 nodes.
        ({"SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "8", "SLURM_TASKS_PER_NODE": "8"}, Launch(1, 8, 8, "slurm")),
        ({"SLURM_JOB_NUM_NODES": "8", "SLURM_STEP_NUM_NODES": "1"}, Launch(1, None, None, "slurm")),
        # srun starts torchrun once a node: torchrun knows the ranks.
        (
            {"SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "2", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"},
            Launch(2, 16, 8, "torchrun"),
        ),
        ({"PMI_SIZE": "8", "PMI_RANK": "0", "MPI_LOCALNRANKS": "4"}, Launch(2, 8, 4, "hydra")),
        ({"SLURM_JOB_NUM_NODES": "0"}, None),
        ({"SLURM_JOB_NUM_NODES": "99999999999999999999"}, None),
    ],
)
def test_the_launchers_variables(environment: dict[str, str], launch: Launch | None) -> None:
    assert launch_of(environment) == launch


@pytest.mark.parametrize(
    ("environment", "cgroup", "job"),
    [
        ({}, "0::/user.slice\n", None),
        ({"SLURM_JOB_ID": "7"}, "", Job(7, 1000)),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_ARRAY_TASK_ID": "2"}, "", Job(7, 1000, "train", 2)),
        # What Slurm's control group says is Slurm's word, the environment is the user's.
        ({"SLURM_JOB_ID": "7"}, "0::/system.slice/slurmstepd.scope/job_8/step_batch/user/task_0\n", Job(8, 1000)),
        ({}, "4:memory:/slurm/uid_1000/job_8\n1:name=systemd:/\n", Job(8, 1000)),
        ({}, "0::/job_8x\n", None),
        ({"SLURM_JOB_ID": "７"}, "", None),
        ({"SLURM_JOB_ID": "-7"}, "", None),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "a\udcff"}, "", Job(7, 1000, "a?")),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "\x1b]0;x\x07\n\u202e模型"}, "", Job(7, 1000, "?]0;x???模型")),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "x" * 300}, "", Job(7, 1000, "x" * 255)),
    ],
)
def test_which_job_a_process_belongs_to(environment: dict[str, str], cgroup: str, job: Job | None) -> None:
    assert job_of(environment, cgroup, 1000) == job
