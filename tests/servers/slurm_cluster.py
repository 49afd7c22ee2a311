"""A real Slurm with two nodes, n1 and n2, on this machine: munged, slurmctld and two slurmd in a folder of their own.

    def test_it(slurm)   # slurm.batch("script", user="games"), slurm.until_ended(job), slurm.defaults(node, …)

Everything listens on 127.0.0.1 and dies with the test process. The Prolog, Epilog and TaskProlog are those of
packaging/slurm, each told by SLURMD_NODENAME which node it is for: `defaults` writes that node's /etc/default/ckptd.
Skipped with a reason where Slurm is not installed (`make slurm`) or we are not root; failed where CKPTD_TEST_REQUIRE
names `slurm`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.debian_packages import missing
from servers.slurm_install import PROGRAMS

NODES = ("n1", "n2")
_PACKAGING = Path(__file__).parents[2] / "packaging/slurm"
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_READY_S = 60.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

_WRAPPER = """#!/bin/sh
echo "$(date +%s.%N) {kind} $SLURM_JOB_ID $SLURMD_NODENAME begins" >>{folder}/calls
env | sort >{folder}/{kind}.$SLURM_JOB_ID.$SLURMD_NODENAME.environ
CKPTD_DEFAULTS={folder}/$SLURMD_NODENAME.defaults
export CKPTD_DEFAULTS
{script} >{folder}/{kind}.$SLURM_JOB_ID.$SLURMD_NODENAME.said 2>&1
code=$?
echo "$(date +%s.%N) {kind} $SLURM_JOB_ID $SLURMD_NODENAME ends $code" >>{folder}/calls
exit $code
"""
_TASK_WRAPPER = """#!/bin/sh
CKPTD_DEFAULTS={folder}/$SLURMD_NODENAME.defaults
export CKPTD_DEFAULTS
exec {script}
"""


class SlurmCluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "CKPTD_"))},
            "SLURM_CONF": str(self.conf),
            "PATH": _PATH,
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    # Life.

    def start(self) -> None:
        munge = self.folder / "munge"
        munge.mkdir(mode=0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for kind in ("prolog", "epilog"):
            self._script(kind, _WRAPPER.format(folder=self.folder, kind=kind, script=_PACKAGING / f"{kind}.d/50-ckptd"))
        self._script("task_prolog", _TASK_WRAPPER.format(folder=self.folder, script=_PACKAGING / "task_prolog.sh"))
        self.conf.write_text(self._configuration())
        self._spawn(
            "munged", "munged", "--foreground", "--force", f"--socket={munge}/socket", f"--key-file={key}",
            f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        self._until((munge / "socket").exists, "munged listens")
        self._spawn("slurmctld", "slurmctld", "-D", "-i")
        for node in NODES:
            self._spawn(node, "slurmd", "-D", "-N", node)
        self._until(lambda: self.states() == ["idle", "idle"], "both nodes are idle")

    def stop(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):  # it may never have started
            self.cancel_all()
        for daemon in reversed(self._daemons.values()):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(10)

    def _spawn(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - it only calls prctl
            )  # fmt: skip

    def _script(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def _configuration(self) -> str:
        host = socket.gethostname().partition(".")[0]
        control, *ports = _free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=4000"
            for node, port in zip(NODES, ports, strict=True)
        )
        return f"""
ClusterName=ckptd-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={self.folder}/munge/socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool-%n
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd-%n.pid
SlurmctldLogFile={self.folder}/slurmctld.log
SlurmdLogFile={self.folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
PrologFlags=Alloc
Prolog={self.folder}/prolog
Epilog={self.folder}/epilog
TaskProlog={self.folder}/task_prolog
PrologEpilogTimeout=60
JobRequeue=1
KillWait=5
MinJobAge=300
SchedulerParameters=batch_sched_delay=0,sched_interval=1
{nodes}
PartitionName=all Nodes={",".join(NODES)} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""

    # What tests do with it.

    def defaults(self, node: str, **values: object) -> None:
        """That node's /etc/default/ckptd; readable for all, as the TaskProlog reads it too."""
        text = "".join(f"{name}='{value}'\n" for name, value in values.items())
        (self.folder / f"{node}.defaults").write_text(text)

    def run(
        self, *command: str, user: str | None = None, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        account = pwd.getpwnam(user) if user else None
        as_user: dict[str, Any] = (
            {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
        )
        environment = self.environment | more.pop("environment", {})
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120, cwd=self.folder,
            **as_user, **more,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stderr}\n{self.log()}"
        return done

    def batch(
        self, script: str, *options: str, user: str | None = None, environment: dict[str, str] | None = None
    ) -> int:
        """Submits it; its output goes to `output(job)`."""
        out = self.folder / "out"
        text = f"#!/bin/sh\n{script}\n"
        done = self.run(
            "sbatch", "--parsable", f"--output={out}/%j", f"--error={out}/%j.err", *options,
            user=user, input=text, environment=environment or {},
        )  # fmt: skip
        return int(done.stdout.strip())

    def output(self, job: int | str) -> str:
        path = self.folder / "out" / str(job)
        return path.read_text(errors="surrogateescape") if path.exists() else ""

    def said(self, kind: str, job: int, node: str) -> str:
        path = self.folder / f"{kind}.{job}.{node}.said"
        return path.read_text() if path.exists() else ""

    def seen(self, kind: str, job: int, node: str) -> str:
        """The environment that it was run with."""
        return (self.folder / f"{kind}.{job}.{node}.environ").read_text(errors="surrogateescape")

    def calls(self, kind: str, job: int) -> list[tuple[str, float, int]]:
        """Node, seconds and exit code of each call of a Prolog or Epilog that has ended."""
        found: list[tuple[str, float, int]] = []
        begun: dict[str, float] = {}
        for line in (self.folder / "calls").read_text().splitlines():
            at, its, number, node, what, *code = line.split()
            if (its, number) == (kind, str(job)):
                if what == "begins":
                    begun[node] = float(at)
                else:
                    found.append((node, float(at) - begun[node], int(code[0])))
        return found

    def job(self, job: int | str) -> dict[str, str]:
        text = self.run("scontrol", "--oneliner", "show", "job", str(job)).stdout
        return dict(re.findall(r"(\w+)=(\S*)", text))

    def states(self) -> list[str]:
        return self.run("sinfo", "--noheader", "--Node", "--format=%t", check=False).stdout.split()

    def until_ended(self, job: int, state: str = "COMPLETED") -> None:
        """… and its Epilog too: only then the node is free of it."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self._until(lambda: self.job(job).get("JobState") in ended, f"job {job} ends")
        assert self.job(job)["JobState"] == state, f"{self.job(job)}\n{self.output(f'{job}.err')}\n{self.log()}"
        self._until(lambda: set(self.states()) == {"idle"}, "the nodes are idle")

    def until_said(self, job: int | str, word: str, times: int = 1, seconds: float = _READY_S) -> None:
        """By its script. (A job is RUNNING for Slurm while its Prolog still runs.)"""
        self._until(lambda: self.output(job).count(word) >= times, f"job {job} says {word}", seconds)

    def until_cleared(self, job: int, node: str) -> None:
        """Its Epilog has ended."""
        self._until(
            lambda: node in {call[0] for call in self.calls("epilog", job)}, f"the Epilog of job {job} on {node}"
        )

    def cancel_all(self) -> None:
        if jobs := self.run("squeue", "--noheader", "--format=%A").stdout.split():
            self.run("scancel", *jobs, check=False)
        self._until(lambda: not self.run("squeue", "--noheader").stdout.strip(), "no job is left")

    def log(self) -> str:
        logs = [
            *sorted(self.folder.glob("*.log")),
            *sorted(self.folder.glob("out/*")),
            *sorted(self.folder.glob("*.said")),
        ]
        logs.append(self.folder / "calls")
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in logs)

    def _until(self, holds: Callable[[], object], what: str, seconds: float = _READY_S) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"not within {seconds} s: {what}\n{self.log()}"
            for name, daemon in self._daemons.items():
                assert daemon.poll() is None, f"{name} ended\n{self.log()}"
            time.sleep(0.1)

    until = _until


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def why_absent() -> str | None:
    if os.geteuid() != 0:
        return "a Slurm cluster for the tests needs root"
    packages = missing(PROGRAMS)
    return f"Slurm is not installed ({', '.join(packages)}): make slurm" if packages else None


@pytest.fixture(scope="session")
def slurm_running() -> Iterator[SlurmCluster]:
    if (reason := why_absent()) is not None:
        if "slurm" in os.environ.get("CKPTD_TEST_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="ckptd-slurm-"))
    folder.chmod(0o755)
    for name, mode in (("out", 0o1777), ("state", 0o755)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    (folder / "calls").touch()
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm(slurm_running: SlurmCluster) -> Iterator[SlurmCluster]:
    """With both nodes idle and nothing left of the test before."""
    yield slurm_running
    slurm_running.cancel_all()
    slurm_running.until(lambda: set(slurm_running.states()) <= {"idle", "drain"}, "the nodes are quiet")
    for node in NODES:
        (slurm_running.folder / f"{node}.defaults").unlink(missing_ok=True)
        if "drain" in slurm_running.states():
            slurm_running.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
