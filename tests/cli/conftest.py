"""The CLI as a user meets it: a scripted node on a real Unix socket, commands in this process or as real ones."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "api"))

from scripted_node import ScriptedNode, listen, run_server

from ckptctl.__main__ import main

REPOSITORY = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def error(self):
        return json.loads(self.err)["error"]


@pytest.fixture
def socket_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the daemon's socket is looked for; nothing of the machine's own settings counts."""
    for name in [name for name in os.environ if name.startswith("CKPTD_")]:
        monkeypatch.delenv(name)
    path = str(tmp_path / "ckptd.sock")
    monkeypatch.setenv("CKPTD_SOCKET", path)
    monkeypatch.setenv("CKPTD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CKPTD_CONFIG", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return path


@pytest.fixture
def node(socket_path: str) -> Iterator[ScriptedNode]:
    scripted = ScriptedNode()
    with run_server(scripted, listen(socket_path)):
        yield scripted


@pytest.fixture
def run(socket_path: str, capfd: pytest.CaptureFixture[str]):
    """Runs a command in this process."""

    def call(*arguments: str) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capfd.readouterr()
        return Answer(ended.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def process(socket_path: str):
    """Starts a command as a process of its own; ended at the latest with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "ckptctl", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
        command: Sequence[str] = words
        running = subprocess.Popen(command, cwd=REPOSITORY, **(pipes | options))
        started.append(running)
        return running

    yield start
    for running in started:
        if running.poll() is None:
            running.kill()
        running.communicate()
