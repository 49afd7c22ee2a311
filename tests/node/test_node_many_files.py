"""One checkpoint of very many files: a clear state, nothing lost, and the daemon answers meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests_node_daemon import MIB, Daemon

FILES = 4000
MEMORY = 300 * MIB
ANSWER_S = 10.0
"""A hundred times what it takes on an idle machine."""


def content(number: int) -> bytes:
    return f"{number:08}".encode() * 16


def write(directory: Path) -> None:
    for number in range(FILES):
        if number % 500 == 0:
            (directory / f"{number // 500}").mkdir(parents=True)
        (directory / f"{number // 500}" / f"{number}").write_bytes(content(number))


def private(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


def test_thousands_of_files_in_one_checkpoint(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    daemon.start()
    worker = daemon.worker_pid()
    directory = daemon.volume / "run/step-1"
    write(directory)
    slowest = most = 0.0
    changed = directory / "0" / "7"
    end = time.monotonic() + 120
    while True:
        begun = time.monotonic()
        found = daemon.checkpoint("run", 1)
        slowest = max(slowest, time.monotonic() - begun)
        most = max(most, private(worker))
        assert found is None or found["state"] in {"writing", "complete", "committed"}, found
        if found and found["state"] == "committed":
            break
        if changed is not None and found and found["durable_bytes"]:  # written anew while others are on their way
            changed.write_bytes(b"anew")
            changed = None
        assert time.monotonic() < end, found
        time.sleep(0.1)
    assert found["files"] == FILES
    assert slowest < ANSWER_S
    assert most < MEMORY
    daemon.ctl("flush", "run@1", timeout=60)
    for number in range(FILES):
        meant = b"anew" if number == 7 and changed is None else content(number)
        assert (daemon.remote / f"run/step-1/{number // 500}/{number}").read_bytes() == meant
    assert daemon.json("ls", "run")[0]["state"] == "committed"
    assert "Traceback" not in daemon.log
