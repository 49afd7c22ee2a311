"""Which job writes to a mounted volume."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_node_daemon import Daemon

SAVE = """
import os, sys
os.makedirs(sys.argv[1])
with open(sys.argv[1] + "/model.bin", "wb") as file:
    file.write(b"x" * 100_000)
    file.flush()
    sys.stdin.read()
"""


@pytest.mark.parametrize("above", ["directory", "link"])
def test_a_job_that_writes_is_found_behind_the_mounts_server(
    new_mounted: Callable[..., Daemon], tmp_path: Path, above: str
) -> None:
    daemon = new_mounted()
    if above == "link":
        (tmp_path / "link").symlink_to(daemon.home)
        daemon.config.write_text(daemon.config.read_text().replace(f'"{daemon.volume}"', f'"{tmp_path}/link/ckpt"'))
    daemon.start()
    environment = os.environ | {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train"}
    command = [sys.executable, "-c", SAVE, str(daemon.volume / "run-1/checkpoint-1")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment):
        (found,) = daemon.until(lambda: daemon.get("/v1/jobs", uid=os.getuid()), "the writer was seen")
    assert (found["run"], found["job"], found["name"]) == ("run-1", 4711, "train")
