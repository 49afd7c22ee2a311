"""A real HDFS (NameNode and DataNode of Hadoop 2.7.3, `make hdfs`) for the tests, one for all workers of a test run.

    def test_it(hdfs_remote)   # a fresh directory of the user `ckptd`: hdfs_remote.url, .options
    def test_it(hdfs_cluster)  # ports, the superuser's name, and .webhdfs(…) to look at it from outside

What kills daemons or changes what holds for the whole cluster has one of its own: `hdfs_own.py`.
Skipped with a reason where the jars or Java are missing; failed where CKPTD_TEST_REQUIRE names `hdfs`.
CKPTD_TEST_HDFS names the folder of the jars.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
from servers.hdfs_daemons import DataNodePorts, Plan, why_absent

USER = "ckptd"
"""A user as any other: permissions count for it. HDFS believes whoever says to be it; no account is needed."""
_READY_S = 90.0


@dataclass(frozen=True)
class HdfsCluster:
    namenode_http: int
    """WebHDFS is spoken there: the port of an `hdfs://` URL in these tests."""
    namenode_rpc: int
    datanodes: tuple[DataNodePorts, ...]
    superuser: str

    def webhdfs(self, method: str, path: str, op: str, user: str = "", data: Any = None, **parameters: Any) -> Any:
        """The `requests.Response`, from the DataNode where the NameNode sends us there. As the superuser if not told."""
        import requests

        query = {"op": op, "user.name": user or self.superuser} | parameters
        with requests.Session() as session:
            session.trust_env = False  # a proxy of this machine leads nowhere
            url = f"http://127.0.0.1:{self.namenode_http}/webhdfs/v1{path}"
            answer = session.request(method, url, params=query, timeout=60, allow_redirects=False)
            if answer.status_code != 307:
                return answer
            headers = {"Content-Type": "application/octet-stream"}
            return session.request(method, answer.headers["Location"], data=data, headers=headers, timeout=60)

    def state(self, bean: str = "FSNamesystemState") -> dict[str, Any]:
        """The NameNode's own view: NumLiveDataNodes, FSState (safeMode, Operational), …; empty while it is starting."""
        import requests

        with requests.Session() as session:
            session.trust_env = False
            query = {"qry": f"Hadoop:service=NameNode,name={bean}"}
            answer = session.get(f"http://127.0.0.1:{self.namenode_http}/jmx", params=query, timeout=10)
        beans = answer.json()["beans"]
        return beans[0] if beans else {}

    def make_directory(self, path: str, owner: str = USER) -> None:
        self.webhdfs("PUT", path, "MKDIRS", permission="755").raise_for_status()
        self.webhdfs("PUT", path, "SETOWNER", owner=owner).raise_for_status()

    @contextlib.contextmanager
    def fresh_remote(self, user: str = USER, *, remove: bool = True) -> Iterator[HdfsRemote]:
        path = f"/{uuid.uuid4().hex}"
        self.make_directory(path, user)
        yield HdfsRemote(f"hdfs://127.0.0.1:{self.namenode_http}{path}", {"user": user}, self, path)
        if remove:
            self.webhdfs("DELETE", path, "DELETE", recursive="true").raise_for_status()


@dataclass(frozen=True)
class HdfsRemote:
    url: str
    options: dict[str, str]
    cluster: HdfsCluster = field(repr=False)
    path: str = ""
    """Of its directory, on the cluster."""


class Keeper:
    """`hdfs_keeper.py` at work, from the side of who started it."""

    def __init__(self, plan: Plan, before: list[list[str]]) -> None:
        self.folder = plan.folder
        (plan.folder / "commands.json").write_text(json.dumps({"before": before, "daemons": plan.commands()}))
        program = Path(__file__).with_name("hdfs_keeper.py")
        self._process = subprocess.Popen(
            [sys.executable, program, plan.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=plan.environment(),
            start_new_session=True,
        )

    def order(self, line: str) -> str:
        orders, answers = self._pipes()
        orders.write(line + "\n")
        orders.flush()
        return answers.readline().strip()

    def alive(self) -> set[str]:
        return set(self.order("alive").split())

    def log(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)

    def reap(self) -> None:
        """It ends with the cluster's last user; another test worker may be that for a while longer."""
        for pipe in self._pipes():
            pipe.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.returncode = 0  # still somebody's; init reaps it

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


def skip_if_absent(besides: Callable[[], str | None] = lambda: None, *, suite: str = "hdfs") -> None:
    """`besides`: says what else the tests of a suite need and have not, as `why_absent` does."""
    reason = why_absent() or besides()
    if reason is None:
        return
    if suite in os.environ.get("CKPTD_TEST_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """As long as anybody does, the folder's cluster runs."""
    with (folder / "users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield


def format_command(plan: Plan) -> list[str]:
    return plan.command("namenode", "-format", "-force", "-nonInteractive", conf="format")


def wait_until(done: Callable[[], bool], what: str, keeper: Keeper, expected: set[str], seconds: float) -> None:
    """`expected`: the daemons without which there is nothing to wait for."""
    import requests

    deadline = time.monotonic() + seconds
    while True:
        error: object = "not yet"
        try:
            if done():
                return
        except (requests.ConnectionError, requests.Timeout, ValueError, KeyError) as problem:
            error = problem
        missing = expected - keeper.alive()
        if missing or time.monotonic() > deadline:
            pytest.fail(f"HDFS: {what}: {error}; ended: {sorted(missing) or 'none'}\n{keeper.log()}")
        time.sleep(0.1)


def cluster_of(plan: Plan, namenode: int = 0) -> HdfsCluster:
    ports = plan.namenodes[namenode]
    return HdfsCluster(ports.http, ports.rpc, plan.datanodes, plan.superuser)


@pytest.fixture(scope="session")
def hdfs_cluster() -> Iterator[HdfsCluster]:
    skip_if_absent()
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    folder = Path(tempfile.gettempdir()) / f"ckptd-test-hdfs-{run[:12]}"
    folder.mkdir(exist_ok=True)
    keeper: Keeper | None = None
    with hold(folder):
        with (folder / "start").open("a") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            ready = folder / "ready.json"
            if not ready.exists():
                plan = Plan.make(folder)
                keeper = Keeper(plan, [format_command(plan)])
                _wait_ready(cluster_of(plan), keeper)
                ready.write_text(plan.dump())
            plan = Plan.load(folder, ready.read_text())
        yield cluster_of(plan)
    if keeper is not None:
        keeper.reap()


def _wait_ready(cluster: HdfsCluster, keeper: Keeper) -> None:
    # The keeper starts the daemons after the NameNode's folder was made: at first nothing runs.
    def writes() -> bool:
        if not cluster.state().get("NumLiveDataNodes"):
            return False
        return bool(cluster.webhdfs("PUT", "/ready", "CREATE", data=b"ready", overwrite="true").status_code == 201)

    wait_until(writes, "the cluster did not start", keeper, {"namenode0", "datanode0"}, _READY_S)


@pytest.fixture
def hdfs_remote(hdfs_cluster: HdfsCluster) -> Iterator[HdfsRemote]:
    with hdfs_cluster.fresh_remote() as remote:
        yield remote
