"""A worker whose loop stands still is noticed: by the supervisor, and by the service manager where that could do nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import Daemons, eventually, stopped

WATCHDOG = {"WATCHDOG_USEC": "18000000"}  # a limit of 6 s, a beat a second


class Notified:
    """What a service manager hears."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines = str(path), list[str]()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while (said := self._socket.recv(4096)) != b"end":
            self.lines += said.decode().splitlines()

    @property
    def beats(self) -> int:
        return self.lines.count("WATCHDOG=1")

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", self.path)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[Notified]:
    made = Notified(tmp_path / "notify")
    yield made
    made.close()


def test_a_worker_that_hangs_is_replaced_and_the_manager_hears_nothing_until_then(
    daemons: Daemons, notified: Notified
) -> None:
    daemon = daemons.serving(environment=WATCHDOG | {"NOTIFY_SOCKET": notified.path})
    eventually(lambda: notified.beats > 2, "beats are passed on")
    first = daemon.call()
    os.kill(first, signal.SIGSTOP)
    eventually(lambda: stopped(first), "it hangs")
    time.sleep(1)  # for what it said before
    before = notified.beats
    time.sleep(3)
    assert notified.beats == before
    second = daemon.call()  # waits in the socket's queue until the next one answers
    assert second != first
    assert "last_exit=it did not answer for " in daemon.notes()[-1]
    eventually(lambda: notified.beats > before + 2, "all is well again")
    daemon.process.send_signal(signal.SIGTERM)
    code, errors = daemon.end()
    assert code == 0
    assert f"event=worker.hung process=supervisor pid={first}" in errors


def test_a_daemon_that_was_stopped_as_a_whole_goes_on_with_its_worker(daemons: Daemons) -> None:
    """As by a frozen control group, or a suspended machine."""
    daemon = daemons.serving(environment={"WATCHDOG_USEC": "9000000"})
    worker = daemon.call()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        # The worker sleeps longer: when the supervisor wakes it has not heard it.
        for pid in (daemon.process.pid, worker) if number == signal.SIGSTOP else (daemon.process.pid,):
            os.kill(pid, number)
        time.sleep(4 if number == signal.SIGSTOP else 0.2)
    os.kill(worker, signal.SIGCONT)
    time.sleep(1)
    assert daemon.call() == worker
    assert len(daemon.notes()) == 1
