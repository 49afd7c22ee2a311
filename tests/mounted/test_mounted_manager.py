"""Under a service manager that keeps descriptors, as systemd does, not even the supervisor's death is noticed by a job.

The manager here is a double: it has systemd's protocol (sd_notify(3), sd_listen_fds(3)) and starts the daemon again.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_node_daemon import Daemon, is_mounted, save

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_manager")]
HANDED_ON = (
    "import os, sys; count = int(sys.argv[1]); os.environ['LISTEN_PID'] = str(os.getpid()); "
    "[os.dup2(int(fd), 3 + at) for at, fd in enumerate(sys.argv[2:2 + count])]; "
    "os.execvp(sys.argv[2 + count], sys.argv[2 + count:])"
)
SAVING = """
import os, sys, time
held = open(sys.argv[1] + "/held.bin", "w+b", buffering=0)
print("saving", flush=True)
number = 0
while os.path.exists(sys.argv[2]):
    block = os.urandom(100_000)
    held.write(block)
    name = f"{sys.argv[1]}/part-{number % 20}"
    with open(name + ".tmp", "wb") as file:
        file.write(block)
    os.rename(name + ".tmp", name)
    assert open(name, "rb").read() == block, name
    number += 1
    time.sleep(0.01)
print(number, os.path.getsize(sys.argv[1] + "/held.bin") == number * 100_000, flush=True)
"""


class ServiceManager:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        self.store: list[tuple[str, int]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(64))
            fds = array.array("i")
            for _, _, raw in ancillary:
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
            lines = data.decode().splitlines()
            if lines == ["end"]:
                return
            named = next((line.partition("=")[2] for line in lines if line.startswith("FDNAME=")), "")
            if "FDSTORE=1" in lines:
                assert len(fds) == 1, lines
                self.store.append((named, fds[0]))
            elif "FDSTOREREMOVE=1" in lines:
                for one in [one for one in self.store if one[0] == named]:
                    self.store.remove(one)
                    os.close(one[1])
            else:
                self.said += lines

    def start(self, daemon: Daemon) -> None:
        daemon.environment |= {"NOTIFY_SOCKET": str(self.path)}
        if self.store:
            # Above those that sd_listen_fds(3) begins with, so that none is overwritten before it is copied.
            high = [(name, os.dup(fd)) for name, fd in self.store]
            fds = [os.fdopen(fd, "rb") for _, fd in high]
            for file in fds:
                os.set_inheritable(file.fileno(), True)
            names = ":".join(name for name, _ in high)
            daemon.environment |= {"LISTEN_FDS": str(len(high)), "LISTEN_FDNAMES": names}
            daemon.prefix = [sys.executable, "-c", HANDED_ON, str(len(high)), *(str(file.fileno()) for file in fds)]
            daemon.pass_fds = [file.fileno() for file in fds]
            try:
                daemon.start()
            finally:
                for file in fds:
                    file.close()
        else:
            daemon.start()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", str(self.path))
        self._thread.join(5)
        self._socket.close()
        for _, fd in self.store:
            os.close(fd)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    made = ServiceManager(tmp_path / "notify")
    try:
        yield made
    finally:
        made.close()


def kill_supervisor(daemon: Daemon) -> None:
    """SIGKILL, and until all that dies with it is gone, as systemd waits for the unit's control group."""
    assert daemon.process is not None
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    end = time.monotonic() + 20
    while any(_runs(int(pid)) for pid in children):
        assert time.monotonic() < end
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False


def test_a_job_does_not_notice_that_the_supervisor_was_killed(
    new_mounted: Callable[..., Daemon], manager: ServiceManager, tmp_path: Path
) -> None:
    daemon = new_mounted()
    manager.start(daemon)
    assert [name for name, _ in manager.store] == ["fuse-ckpt", "state-ckpt"]
    daemon.until(lambda: "READY=1" in manager.said, "it says that it is ready")
    (tmp_path / "go").touch()
    (daemon.volume / "run-1").mkdir()
    words = [sys.executable, "-c", SAVING, str(daemon.volume / "run-1"), str(tmp_path / "go")]
    job = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert job.stdout is not None
        assert job.stdout.readline() == "saving\n"
        for _ in range(3):
            kill_supervisor(daemon)
            manager.start(daemon)
            assert "mount.outlived" in daemon.log
        (tmp_path / "go").unlink()
        said, errors = job.communicate(timeout=60)
    finally:
        job.kill()
        job.communicate()
    assert (job.returncode, errors) == (0, "")
    number, whole = said.split()
    assert int(number) > 0
    assert whole == "True"
    daemon.ctl("flush")
    assert (daemon.remote / "run-1/held.bin").stat().st_size == int(number) * 100_000
    assert daemon.terminate() == 0
    assert "STOPPING=1" in manager.said
    daemon.until(lambda: manager.store == [], "nothing is kept after an orderly end")
    assert not is_mounted(daemon.volume)


def test_what_is_kept_of_a_mount_that_is_gone_does_not_matter(
    new_mounted: Callable[..., Daemon], manager: ServiceManager
) -> None:
    daemon = new_mounted()
    manager.start(daemon)
    kill_supervisor(daemon)
    subprocess.run(["umount", "-l", daemon.volume], check=True)
    manager.start(daemon)
    assert "mount.outlived" not in daemon.log
    (daemon.volume / "run-1").mkdir()


def test_a_restart_while_the_remote_is_not_mounted_serves_all_the_same_where_the_remote_was_met_before(
    new_mounted: Callable[..., Daemon], manager: ServiceManager, tmp_path: Path
) -> None:
    daemon = new_mounted(extra='shutdown_timeout = "1s"')
    manager.start(daemon)
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"1", "DONE": b""})
    daemon.committed("run-1", 1)
    elsewhere = tmp_path / "elsewhere"
    with open(daemon.volume / "run-1/held.bin", "wb", buffering=0) as held:
        kill_supervisor(daemon)
        daemon.remote.rename(elsewhere)
        daemon.remote.mkdir()  # as a mount point is without its file system
        manager.start(daemon)
        held.write(b"the mount is the same")
        assert "mount.outlived" in daemon.log
    assert not daemon.get("/v1/status")["volumes"][0]["remote_ok"]
    save(daemon.volume / "run-1/checkpoint-2", {"model.bin": b"2", "DONE": b""})
    daemon.state_is("run-1", 2, "complete")
    assert list(daemon.remote.iterdir()) == []
    # After a stop in order, and a start by hand: whoever types it is told.
    daemon.terminate()
    del daemon.environment["NOTIFY_SOCKET"]
    daemon.prefix, daemon.pass_fds = [], []
    for name in ("LISTEN_FDS", "LISTEN_FDNAMES"):
        daemon.environment.pop(name, None)
    _, said = daemon.launch()
    assert "is not the one it was" in said["message"]
    assert daemon.process is not None
    assert daemon.process.wait(30) == 1
    # A reboot: nothing is kept, and the manager starts it.
    manager.start(daemon)
    daemon.remote.rmdir()
    elsewhere.rename(daemon.remote)
    daemon.committed("run-1", 2, timeout=60)


def test_the_first_start_ever_fails_under_a_manager_too(
    new_mounted: Callable[..., Daemon], manager: ServiceManager, tmp_path: Path
) -> None:
    daemon = new_mounted(remote=f"file://{tmp_path}/not/mounted")
    with pytest.raises(AssertionError, match="no such directory"):
        manager.start(daemon)
    assert "READY=1" not in manager.said
    assert daemon.process is not None
    assert daemon.process.wait(30) == 1
    assert not is_mounted(daemon.volume)
