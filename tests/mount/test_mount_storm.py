"""The server is killed again and again, at any instant; the jobs that use the mount notice nothing.

For a minute where the kernel moves the bytes, for a quarter of one where the server does; CKPTD_STORM_SECONDS says otherwise.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests_mount_served import Served, wait_for

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(400)]
SECONDS = {"passthrough": "60", "mediated": "15"}
WRITERS = 4


def test_jobs_notice_nothing_of_a_server_that_is_killed(either: Served, request: pytest.FixtureRequest) -> None:
    seconds = os.environ.get("CKPTD_STORM_SECONDS") or SECONDS[request.node.callspec.params["either"]]
    script = Path(__file__).with_name("tests_mount_storm.py")
    writers = [
        subprocess.Popen(
            [sys.executable, script, either.path, str(number), seconds],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(WRITERS)
    ]
    dice, kills, resent = random.Random(), 0, 0
    try:
        while any(writer.poll() is None for writer in writers):
            time.sleep(dice.uniform(0.2, 0.6))
            if any(writer.poll() for writer in writers):
                break
            resent += either.ask("status")["resent"]
            time.sleep(dice.uniform(0, 0.01))
            either.kill()
            either.start()
            kills += 1
    finally:
        outputs = [ended(writer) for writer in writers]
    print(f"{kills} kills, {resent} requests resent;", outputs)
    assert [writer.returncode for writer in writers] == [0] * WRITERS, outputs
    assert os.listdir(either.path) == []
    wait_for(lambda: not os.listdir(either.backing / ".ckptd-open"))
    wait_for(lambda: either.ask("status")["nodes"] < 500)
    assert resent > 5  # else the kills met nobody


def ended(writer: subprocess.Popen[str]) -> str:
    try:
        return writer.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        writer.kill()
        return "HUNG " + writer.communicate()[0]
