"""A clock that jumps: nothing waits for it, nothing is called torn, nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests_node_daemon import Daemon, save

DAY = 86400

SERVE = """
import os, sys
from ckptd.settings.layers import Overrides
from ckptd.settings.load import load
from ckptd.supervisor.announce import Announcer
from ckptd.supervisor.serve import serve
settings = load(config=sys.argv[1], environ=os.environ, overrides=Overrides()).settings
sys.exit(serve(settings, Announcer(int(sys.argv[2])), command=(sys.executable, "-I", "-c", sys.argv[3], sys.argv[4])))
"""

WORKER = """
import sys, time
true = time.time
time.time = lambda: true() + int(open(sys.argv[1]).read())
from ckptd.worker import main
sys.exit(main())
"""


class ShiftedDaemon(Daemon):
    """Its worker's clock is off by as many seconds as a file says. (Times of files stay true: they are the kernel's.)"""

    def launch(self) -> tuple[int, dict[str, Any]]:
        reading, writing = os.pipe()
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", SERVE, self.config, str(writing), WORKER, self.home / "offset"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writing], env=self.environment,
            )  # fmt: skip
        os.close(writing)
        with open(reading, "rb") as ready:
            line = ready.readline()
        return self.process.pid, json.loads(line) if line else {}

    def shift(self, seconds: int) -> None:
        new = self.home / "offset.new"
        new.write_text(str(seconds))
        new.rename(self.home / "offset")


@pytest.fixture
def shifted(tmp_path: Path) -> Iterator[ShiftedDaemon]:
    daemon = ShiftedDaemon(
        tmp_path / "node", Path(f"/dev/shm/ckptd-test-{os.getpid()}-clock"), remote=f"file://{tmp_path}/remote"
    )
    daemon.shift(0)
    yield daemon
    daemon.end()
    subprocess.run(["rm", "-rf", daemon.ram], check=True)


def saved(daemon: Daemon, step: int, *names: str) -> None:
    save(daemon.volume / "run-1" / f"step-{step}", {name: bytes([step]) for name in names})


@pytest.mark.parametrize("jump", [-DAY, DAY], ids=["back", "forward"])
def test_uploads_and_commits_go_on_after_a_jump(shifted: ShiftedDaemon, jump: int) -> None:
    shifted.start()
    saved(shifted, 1, "a.bin", "DONE")
    saved(shifted, 2, "a.bin")  # without marker: complete after it was quiet for a while
    shifted.committed("run-1", 1)
    shifted.shift(jump)
    saved(shifted, 3, "a.bin", "DONE")
    saved(shifted, 4, "a.bin", "DONE")
    for step in (1, 3, 4):
        shifted.committed("run-1", step)
    assert shifted.json("status")["exposure"]["files"] == 0
    assert shifted.json("prefetch", "run-1@4")["state"] == "done"
    assert shifted.json("flush", "--timeout", "20s")["state"] == "done"
    shifted.json("ops")


def test_a_checkpoint_whose_marker_comes_after_the_clock_went_back_is_whole(shifted: ShiftedDaemon) -> None:
    shifted.start()
    saved(shifted, 1, "a.bin", "b.bin")
    shifted.state_is("run-1", 1, "writing")
    shifted.shift(-DAY)
    saved(shifted, 1, "DONE")
    shifted.committed("run-1", 1)
    assert shifted.ctl("latest", "run-1").stdout.strip().endswith("step-1")


def test_a_restart_before_the_time_that_the_catalog_remembers_goes_on(shifted: ShiftedDaemon, tmp_path: Path) -> None:
    shifted.shift(DAY)
    shifted.start()
    saved(shifted, 1, "a.bin", "DONE")
    shifted.committed("run-1", 1)
    (tmp_path / "remote").rename(tmp_path / "away")
    saved(shifted, 2, "a.bin", "DONE")
    shifted.until(lambda: "remote.unreachable" in shifted.log, "the remote's absence noticed")
    shifted.crash()
    shifted.shift(0)
    (tmp_path / "away").rename(tmp_path / "remote")
    shifted.start()
    shifted.committed("run-1", 2)
    saved(shifted, 3, "a.bin", "DONE")
    shifted.committed("run-1", 3)
