"""Who writes below a directory, and how it was launched: asked of a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckptd.domain.launch import Job, Launch
from ckptd.engine.launching import find_writer, started

_HOLDS = "import sys; file = open(sys.argv[1], sys.argv[2]); print('open', flush=True); sys.stdin.read()"


@pytest.mark.parametrize(("mode", "found"), [("wb", True), ("rb", False)])
def test_the_environment_of_a_process_that_writes_is_read(tmp_path: Path, mode: str, found: bool) -> None:
    path = tmp_path / "run-1" / "model.pt"
    path.parent.mkdir()
    path.write_bytes(b"")
    environment = {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}
    environment |= {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_ARRAY_TASK_ID": "3"}
    command = [sys.executable, "-c", _HOLDS, str(path), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"open\n"
        writer = find_writer(str(path.parent))
        assert find_writer(str(tmp_path / "run-2")) is None
        assert find_writer(str(tmp_path / "run")) is None
    if not found:
        assert writer is None
        return
    assert writer is not None
    assert writer.pid == job.pid
    assert writer.launch == Launch(2, 16, 8, "torchrun")
    assert writer.job == Job(4711, os.getuid(), "train", 3)
    assert started(job.pid) is None  # it has ended


_ELSEWHERE = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("same", [False, True])
def test_in_another_mount_namespace_the_same_path_may_be_another_file(tmp_path: Path, same: bool) -> None:
    """There anybody can mount his own directory where ours is: what counts is which file is open."""
    ours, other = tmp_path / "run-1", tmp_path / "other"
    for folder in (ours, other):
        folder.mkdir()
        (folder / "model.pt").write_bytes(b"")
    command = [
        "unshare", "--mount", "sh", "-c", _ELSEWHERE, "sh", str(ours if same else other), str(ours),
        sys.executable, "-c", _HOLDS, str(ours / "model.pt"), "wb",
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"open\n"
        writer = find_writer(str(ours))
    assert (writer is not None and writer.pid == job.pid) is same
