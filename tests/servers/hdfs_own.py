"""An HDFS of a test module's own, whose daemons may be killed and whose rules may be changed.

    def test_it(hdfs_own)        # two DataNodes, two copies of each block
    def test_it(hdfs_ha)         # two NameNodes, the first active, the second in standby; one DataNode
    def test_it(hdfs_misnamed)   # its DataNode tells clients a host name that does not resolve

Each is put right again after the test: all daemons run, out of safe mode, the first NameNode active. What a test changes in
its directory (quotas) goes with the directory. Starting one takes about ten seconds: tests that share one belong into one
module, with `pytest.mark.xdist_group`, or each worker starts its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers.hdfs_cluster import (
    HdfsCluster,
    HdfsRemote,
    Keeper,
    cluster_of,
    format_command,
    hold,
    skip_if_absent,
    wait_until,
)
from servers.hdfs_daemons import DataNodePorts, Plan

MISNAMED = "datanode.ckptd.invalid"
_READY_S = 60.0


@dataclass(frozen=True)
class OwnCluster:
    plan: Plan
    keeper: Keeper

    def cluster(self, namenode: int = 0) -> HdfsCluster:
        """As that NameNode serves it."""
        return cluster_of(self.plan, namenode)

    @contextlib.contextmanager
    def fresh_remote(self, namenode: int = 0) -> Iterator[HdfsRemote]:
        """What is left in it goes with the cluster: the test may have taken away what removes it."""
        with self.cluster(namenode).fresh_remote(remove=False) as remote:
            yield remote

    def kill(self, name: str) -> None:
        """kill -9 to `namenode0`, `datanode1`, …; the NameNode takes a killed DataNode for alive for twelve seconds more."""
        assert self.keeper.order(f"kill {name}") == "done"

    def start(self, *names: str) -> None:
        """One or several that were killed; they serve when this returns (a NameNode that has a partner: in standby)."""
        for name in names:
            assert self.keeper.order(f"start {name}") == "done"
        self.wait_ready()
        if len(self.plan.namenodes) == 1 and "namenode0" in names:
            self._wait(lambda: self._operational(0), "the NameNode stays in safe mode")

    def live_datanodes(self, namenode: int = 0) -> int:
        """As the NameNode sees it, late as it is."""
        return int(self.cluster(namenode).state()["NumLiveDataNodes"])

    def safe_mode(self, *, on: bool) -> None:
        self._run("dfsadmin", "-safemode", "enter" if on else "leave")

    def space_quota(self, path: str, size: int) -> None:
        """In bytes; each copy counts. A block that is being written counts as a whole one, with all its copies."""
        self._run("dfsadmin", "-setSpaceQuota", str(size), path)

    def name_quota(self, path: str, count: int) -> None:
        """Of files and directories; the directory itself counts."""
        self._run("dfsadmin", "-setQuota", str(count), path)

    def activate(self, namenode: int) -> None:
        """It takes over: from one that steps back, as an operator does it, or from one that was killed."""
        others = [f"namenode{index}" for index in range(len(self.plan.namenodes)) if index != namenode]
        alive = self.keeper.alive()
        for other in others:
            if other in alive:
                self._run("haadmin", "-transitionToStandby", other)
        # Without it, it asks the others first and gives up when one does not answer.
        force = [] if alive.issuperset(others) else ["--forceactive"]
        self._run("haadmin", "-transitionToActive", *force, f"namenode{namenode}")
        self._wait(
            lambda: self.is_active(namenode) and self._operational(namenode), f"namenode{namenode} does not take over"
        )

    def is_active(self, namenode: int) -> bool:
        return bool(self.cluster(namenode).webhdfs("GET", "/", "GETFILESTATUS").status_code == 200)

    def heal(self) -> None:
        if dead := sorted(set(self.plan.commands()) - self.keeper.alive()):
            self.start(*dead)
        if not self.is_active(0):
            self.activate(0)
        if not self._operational(0):
            self.safe_mode(on=False)

    def wait_ready(self) -> None:
        """The NameNodes that run hear from the DataNodes that run."""
        alive = self.keeper.alive()
        namenodes = [index for index in range(len(self.plan.namenodes)) if f"namenode{index}" in alive]
        datanodes = [each for index, each in enumerate(self.plan.datanodes) if f"datanode{index}" in alive]
        for namenode in namenodes:
            self._wait(
                lambda namenode=namenode: all(self._hears_from(namenode, each) for each in datanodes),
                f"namenode{namenode} does not hear from its DataNodes",
            )

    def _hears_from(self, namenode: int, datanode: DataNodePorts) -> bool:
        """Not only had it lived a moment ago, before it was killed: it listens, and the NameNode knows what is in it."""
        with socket.socket() as connection:
            connection.settimeout(5)
            if connection.connect_ex(("127.0.0.1", datanode.http)):
                return False
        nodes = json.loads(self.cluster(namenode).state("NameNodeInfo").get("LiveNodes", "{}"))
        return any(
            name.endswith(f":{datanode.data}") and node["lastContact"] <= 1 and node["volfails"] == 0
            for name, node in nodes.items()
        )

    def _operational(self, namenode: int) -> bool:
        return bool(self.cluster(namenode).state().get("FSState") == "Operational")

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        wait_until(done, what, self.keeper, self.keeper.alive(), _READY_S)

    def _run(self, program: str, *arguments: str) -> None:
        command = self.plan.command(program, *arguments)
        run = subprocess.run(
            command, env=self.plan.environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 0, f"{program} {' '.join(arguments)}: {run.stdout}{run.stderr}\n{self.keeper.log()}"


@contextlib.contextmanager
def running(datanodes: int = 1, *, standby: bool = False, datanode_hostname: str = "127.0.0.1") -> Iterator[OwnCluster]:
    skip_if_absent()
    folder = Path(tempfile.mkdtemp(prefix="ckptd-test-hdfs-"))
    with hold(folder):
        plan = Plan.make(folder, datanodes, standby=standby, datanode_hostname=datanode_hostname)
        before = [format_command(plan)]
        if standby:
            before.append(["cp", "-r", f"{folder}/namenode0", f"{folder}/namenode1"])
        own = OwnCluster(plan, Keeper(plan, before))
        own.wait_ready()
        if standby:
            own.activate(0)
        yield own
    own.keeper.reap()


@pytest.fixture(scope="module")
def hdfs_own_running() -> Iterator[OwnCluster]:
    with running(datanodes=2) as own:
        yield own


@pytest.fixture(scope="module")
def hdfs_ha_running() -> Iterator[OwnCluster]:
    with running(standby=True) as own:
        yield own


@pytest.fixture(scope="module")
def hdfs_misnamed_running() -> Iterator[OwnCluster]:
    with running(datanode_hostname=MISNAMED) as own:
        yield own


@pytest.fixture
def hdfs_own(hdfs_own_running: OwnCluster) -> Iterator[OwnCluster]:
    yield hdfs_own_running
    hdfs_own_running.heal()


@pytest.fixture
def hdfs_ha(hdfs_ha_running: OwnCluster) -> Iterator[OwnCluster]:
    yield hdfs_ha_running
    hdfs_ha_running.heal()


@pytest.fixture
def hdfs_misnamed(hdfs_misnamed_running: OwnCluster) -> OwnCluster:
    return hdfs_misnamed_running
