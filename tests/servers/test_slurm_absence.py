"""Without Slurm its tests are skipped with a reason; where it is required they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ABSENT = """
from servers import slurm_cluster
slurm_cluster.missing = lambda programs: ['slurmd']
slurm_cluster.os.geteuid = lambda: 0
"""


@pytest.mark.parametrize(("required", "outcome"), [("s3", "1 skipped"), ("s3,slurm", "1 error")])
def test_a_missing_slurm_is_said_so(tmp_path: Path, required: str, outcome: str) -> None:
    (tmp_path / "conftest.py").write_text(_ABSENT)
    (tmp_path / "test_it.py").write_text("def test_it(slurm): pass")
    environment = os.environ | {"CKPTD_TEST_REQUIRE": required, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rsE",
        "-p",
        "servers.slurm_cluster",
        "-p",
        "no:cacheprovider",
        tmp_path,
    ]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome in run.stdout, run.stdout + run.stderr
    assert "make slurm" in run.stdout
