"""Without HDFS its tests are skipped with a reason; where it is required they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("fixture", "required", "outcome"), [("hdfs_remote", "s3", "1 skipped"), ("hdfs_own", "s3,hdfs", "1 error")]
)
def test_a_missing_hdfs_is_said_so(tmp_path: Path, fixture: str, required: str, outcome: str) -> None:
    (tmp_path / "test_it.py").write_text(f"def test_it({fixture}): pass")
    environment = os.environ | {
        "CKPTD_TEST_HDFS": "/not/there",
        "CKPTD_TEST_REQUIRE": required,
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    plugins = ("-p", "servers.hdfs_cluster", "-p", "servers.hdfs_own", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", "-rsE", *plugins, tmp_path]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome in run.stdout, run.stdout + run.stderr
    assert "make hdfs" in run.stdout
