"""The package is replaced under a daemon that serves: `ckptctl upgrade` goes on with the new code, and no job notices."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_mounted_volume import digest, server_pid
from tests_node_daemon import Daemon

import ckptd

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_upgrade")]
SOURCE = Path(ckptd.__file__).parent.parent
SAVING = """
import os, sys, time
held = open(sys.argv[1] + "/held.bin", "w+b", buffering=0)
print("saving", flush=True)
number, sums = 0, {}
while os.path.exists(sys.argv[2]):
    block = os.urandom(100_000)
    assert held.write(block) == len(block), "the tier is full"
    name = f"{sys.argv[1]}/part-{number % 20}"
    with open(name + ".tmp", "wb") as file:
        file.write(block)
    os.rename(name + ".tmp", name)
    with open(name, "rb") as file:
        assert file.read() == block, name
    number += 1
    time.sleep(0.005)
held.seek(0)
assert len(held.read()) == number * 100_000, (number, os.fstat(held.fileno()).st_size)
print(number, flush=True)
"""


class Installation:
    """A copy of the program in an environment of its own, which a test may replace."""

    def __init__(self, home: Path) -> None:
        venv.create(home / "env", with_pip=False)
        self.python = home / "env/bin/python"
        self.source = home / "source"
        for package in ("ckptd", "ckptctl", "backends"):
            shutil.copytree(SOURCE / package, self.source / package, ignore=shutil.ignore_patterns("__pycache__"))
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        libraries = sysconfig.get_paths()["purelib"]
        (home / f"env/lib/{version}/site-packages/ours.pth").write_text(f"{self.source}\n{libraries}\n")

    def change(self, file: str, old: str, new: str) -> None:
        path = self.source / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "installed")


@pytest.fixture
def daemon(new_mounted: Callable[..., Daemon], installed: Installation) -> Daemon:
    made = new_mounted()
    made.python = str(installed.python)
    made.start()
    return made


@pytest.fixture
def job(daemon: Daemon, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Saves until the file `go` is gone; fails at the first error."""
    (tmp_path / "go").touch()
    (daemon.volume / "run-1").mkdir()
    words = [sys.executable, "-c", SAVING, str(daemon.volume / "run-1"), str(tmp_path / "go")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "saving\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_an_upgrade_in_the_middle_of_a_save(
    daemon: Daemon, installed: Installation, job: subprocess.Popen[str], tmp_path: Path
) -> None:
    before = {"worker": daemon.worker_pid(), "server": server_pid(daemon)}
    installed.change("ckptd/__init__.py", '__version__ = "', '__version__ = "9.')
    done = daemon.json("upgrade")
    assert done["before"] == ckptd.__version__
    assert done["after"] == f"9.{ckptd.__version__}"
    assert done["mounts"] is True
    status = daemon.json("status")
    assert (status["version"], status["restarts"]) == (f"9.{ckptd.__version__}", 0)
    after = {"worker": daemon.worker_pid(), "server": server_pid(daemon)}
    assert not before.items() & after.items()
    (tmp_path / "go").unlink()
    said, errors = job.communicate(timeout=60)
    assert (job.returncode, errors) == (0, "")
    assert int(said) > 0
    daemon.ctl("flush")
    held = daemon.volume / "run-1/held.bin"
    assert digest(held) == digest(daemon.remote / "run-1/held.bin")


def test_an_installation_that_does_not_work_changes_nothing(daemon: Daemon, installed: Installation) -> None:
    before = daemon.worker_pid()
    installed.change("ckptd/worker.py", "class Worker:", "class Worker")
    refused = daemon.ctl("upgrade", check=1)
    assert "cannot be started: SyntaxError" in refused.stderr
    assert "goes on serving" in refused.stderr
    assert daemon.worker_pid() == before


def test_servers_that_could_not_go_on_with_the_mounts_are_not_replaced(daemon: Daemon, installed: Installation) -> None:
    server, worker = server_pid(daemon), daemon.worker_pid()
    installed.change("ckptd/fronts/mount/state.py", "VERSION = ", "VERSION = 7")
    told = daemon.ctl("upgrade").stdout
    assert "served by the old code" in told
    assert server_pid(daemon) == server
    assert daemon.worker_pid() != worker
    (daemon.volume / "run-1").mkdir()


def test_a_worker_that_is_stopped_holds_nobody_up(daemon: Daemon) -> None:
    """SIGSTOP, as by a debugger or a frozen control group: saves and reads go on, and become durable when it is back."""
    worker = daemon.worker_pid()
    run = daemon.volume / "run-1"
    subprocess.run(["kill", "-STOP", str(worker)], check=True)
    try:
        (run / "checkpoint-1").mkdir(parents=True)
        (run / "checkpoint-1/model.bin").write_bytes(b"x" * 100_000)
        assert (run / "checkpoint-1/model.bin").read_bytes() == b"x" * 100_000
        (run / "checkpoint-1").rename(run / "checkpoint-2")
    finally:
        subprocess.run(["kill", "-CONT", str(worker)], check=True)
    daemon.committed("run-1", 2)


def test_a_server_that_is_stopped_lets_open_files_be_written(daemon: Daemon) -> None:
    server = server_pid(daemon)
    script = (
        "import sys; f = open(sys.argv[1], 'wb', buffering=0); f.write(b'1'); print('open', flush=True); input(); "
        "f.write(b'2' * 100_000); print('written', flush=True); open(sys.argv[1] + '-2', 'wb').close(); print('made')"
    )
    target = daemon.volume / "run-1-model.bin"
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    try:
        assert writer.stdout.readline() == "open\n"
        subprocess.run(["kill", "-STOP", str(server)], check=True)
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "written\n"  # the kernel's work
    finally:
        subprocess.run(["kill", "-CONT", str(server)], check=False)
        said, _ = writer.communicate(timeout=30)
    assert (writer.returncode, said) == (0, "made\n")
