"""The HDFS of these tests is a real one, and does what its fixtures say."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from servers.hdfs_cluster import HdfsCluster, HdfsRemote

pytestmark = pytest.mark.hdfs


def test_what_a_user_wrote_is_read_back(hdfs_remote: HdfsRemote) -> None:
    content = bytes(range(256)) * 8192
    cluster, path, user = hdfs_remote.cluster, f"{hdfs_remote.path}/a/b", hdfs_remote.options["user"]
    assert cluster.webhdfs("PUT", path, "CREATE", user, data=content).status_code == 201
    assert cluster.webhdfs("GET", path, "OPEN", user).content == content
    assert cluster.webhdfs("GET", path, "OPEN", user, offset=300, length=5).content == content[300:305]
    assert cluster.webhdfs("GET", path, "GETFILESTATUS").json()["FileStatus"]["owner"] == user


def test_permissions_count(hdfs_remote: HdfsRemote) -> None:
    path = f"{hdfs_remote.path}/theirs"
    refused = hdfs_remote.cluster.webhdfs("PUT", path, "MKDIRS", "somebody")
    assert refused.status_code == 403
    assert refused.json()["RemoteException"]["exception"] == "AccessControlException"


@pytest.mark.slow
def test_nothing_is_left_of_a_test_run_that_was_killed(tmp_path: Path, hdfs_cluster: HdfsCluster) -> None:
    """`hdfs_cluster` only so that this is skipped where there is none."""
    (tmp_path / "temp").mkdir()
    (tmp_path / "test_it.py").write_text(
        "import time\ndef test_it(hdfs_cluster):\n    open('runs', 'w').close()\n    time.sleep(100)\n"
    )
    # Not a worker of this run: a run of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(Path(__file__).parent.parent), "TMPDIR": f"{tmp_path}/temp"}
    command = [sys.executable, "-m", "pytest", "-p", "servers.hdfs_cluster", "-p", "no:cacheprovider", "test_it.py"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL) as run:
        try:
            until(lambda: (tmp_path / "runs").exists() or run.poll() is not None)
            assert run.poll() is None
            assert daemons_in(tmp_path)
        finally:
            run.kill()
    until(lambda: not daemons_in(tmp_path) and not any((tmp_path / "temp").glob("ckptd-*")))


def daemons_in(folder: Path) -> list[str]:
    """Processes (keeper and daemons) that were started with a path below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (process / "cmdline").read_bytes()
            if f"{folder}/temp".encode() in arguments:
                found.append(process.name)
    return found


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)
