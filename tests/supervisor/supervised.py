"""A real supervisor in a process of its own, with a stub for the worker."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PATIENCE_S = 30


def eventually(question: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"never: {what}")


def alive(pid: int) -> bool:
    """A zombie that its new parent has not collected yet counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def stopped(pid: int) -> bool:
    """All of its threads, by SIGSTOP."""
    states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


@dataclass
class Daemon:
    state_dir: Path
    socket_path: Path
    process: subprocess.Popen[str]
    ready: int
    said: dict[str, Any] | None = None

    def announcement(self) -> dict[str, Any]:
        """What a waiting `ckptctl up` gets."""
        if self.said is None:
            data = b""
            while b"\n" not in data:
                readable, _, _ = select.select([self.ready], [], [], PATIENCE_S)
                assert readable, "the supervisor never announced anything"
                chunk = os.read(self.ready, 65536)
                assert chunk, "the supervisor ended without a word"
                data += chunk
            self.said = json.loads(data)
        return self.said

    def call(self) -> int:
        """Connects and waits to be answered: the pid of the worker that did."""
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(PATIENCE_S)
            caller.connect(str(self.socket_path))
            return int(caller.recv(64))

    def notes(self) -> list[str]:
        """What the workers wrote down, one line an event."""
        path = self.state_dir / "stub.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, errors


@dataclass
class Daemons:
    root: Path
    started: list[Daemon] = field(default_factory=list)

    def start(
        self, *words: str, state: str = "state", socket_path: Path | None = None, limit_s: float = 5,
        environment: dict[str, str] | None = None,
    ) -> Daemon:  # fmt: skip
        state_dir = self.root / state
        socket_path = socket_path or self.root / f"{state}.sock"
        node = {"name": "n", "state_dir": str(state_dir), "socket": str(socket_path), "shutdown_timeout": limit_s}
        tier = {"path": str(self.root / "ram"), "budget": 1}
        volume = {
            "name": "ckpt",
            "path": str(self.root / "ckpt"),
            "remote": f"file://{self.root}/remote",
            "front": "watch",
        }
        settings = {"node": node, "tiers": {"ram": tier}, "transfer": {}, "volumes": [volume]}
        ready, writing = os.pipe()
        command = [sys.executable, str(HERE / "drive.py"), json.dumps(settings), str(writing)]
        process = subprocess.Popen(
            [*command, sys.executable, str(HERE / "stub_worker.py")],
            env={**os.environ, "STUB": ",".join(words), "PYTHONPATH": str(HERE.parent.parent), **(environment or {})},
            pass_fds=[writing],
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(writing)
        daemon = Daemon(state_dir, socket_path, process, ready)
        self.started.append(daemon)
        return daemon

    def serving(self, *words: str, **more: Any) -> Daemon:
        daemon = self.start(*words, **more)
        assert daemon.announcement() == {"ok": True}
        return daemon
