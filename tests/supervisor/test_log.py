from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckptd.supervisor import logfile

PROGRAM = """
from ckptd.supervisor import log
logger = log.configure("supervisor")
logger.info("mount.served", volume="ckpt")
logger.warning("tier.kept", reason="it has room")
logger.error("worker.died")
"""


def lines(*, journal: bool) -> list[str]:
    """As a service writes them whose standard error is the journal's (JOURNAL_STREAM, systemd.exec(5)), or is not."""
    reading, writing = os.pipe()
    found = os.fstat(writing)
    stream = f"{found.st_dev}:{found.st_ino if journal else found.st_ino + 1}"
    subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, stderr=writing, env=os.environ | {"JOURNAL_STREAM": stream}
    )
    os.close(writing)
    with open(reading, encoding="utf-8") as said:
        return said.read().splitlines()


def test_lines_in_the_journal_have_their_priority() -> None:
    assert [line[:3] for line in lines(journal=True)] == ["<6>", "<4>", "<3>"]


def test_elsewhere_they_have_none() -> None:
    said = lines(journal=False)
    assert len(said) == 3
    assert all(line.startswith("timestamp=") for line in said)


def test_only_the_daemons_own_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = tmp_path / "ckptd.log", tmp_path / "mine"
    for path in (own, other):
        path.write_bytes(b"x" * 100)
    with other.open("a") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        logfile.bound(str(own), limit=10)
    assert other.stat().st_size == own.stat().st_size == 100
    with own.open("a") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        logfile.bound(str(own), limit=100)
        assert own.stat().st_size == 100
        logfile.bound(str(own), limit=99)
        stderr.write("after")
    assert own.read_bytes() == b"after"
    assert (tmp_path / "ckptd.log.1").read_bytes() == b"x" * 100
