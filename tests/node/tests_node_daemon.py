"""A real daemon under test: started as users start it, spoken to through the real command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ckptctl.client import Client
from ckptd.domain.errors import NotKnown
from ckptd.fronts.mount import mounting, system

MIB = 1 << 20
FRONT = os.environ.get("CKPTD_TEST_FRONT", "watch")
"""`mount` runs the tests of a node (and of frameworks) on mounted volumes: see CONTRIBUTING.md."""


class Daemon:
    def __init__(
        self, home: Path, ram: Path, *, remote: str = "", ram_budget: str = "512MiB", nvme_budget: str = "1GiB",
        policy: str = "", extra: str = "", transfer: str = "", options: str = "", node: str = "", volume: Path | None = None,
        environment: dict[str, str] | None = None, prefix: list[str] | None = None, front: str = FRONT,
    ) -> None:  # fmt: skip
        home.mkdir(parents=True)
        self.home, self.ram = home, ram
        self.prefix = prefix or []  # a command that runs the daemon elsewhere: in a network namespace
        self.volume = volume or home / "ckpt"
        self.remote_url = remote or f"file://{home}/remote"
        self.node = node or home.name
        self.process: subprocess.Popen[bytes] | None = None
        self.python = sys.executable
        self.pass_fds: list[int] = []
        self.environment = dict(os.environ) | {"CKPTD_SOCKET": str(home / "s")} | (environment or {})
        self.config = home / "config.toml"
        self.config.write_text(
            f"""
[node]
name = "{self.node}"
state_dir = "{home}/state"
socket = "{home}/s"
{extra}
[tiers.ram]
path = "{ram}"
budget = "{ram_budget}"
[tiers.nvme]
path = "{home}/nvme"
budget = "{nvme_budget}"
[transfer]
{transfer}
[[volumes]]
name = "ckpt"
path = "{self.volume}"
remote = "{self.remote_url}"
front = "{front}"
{"[volumes.options]" if options else ""}
{options}
[volumes.policy]
settle = "300ms"
{policy}
"""
        )

    @property
    def remote(self) -> Path:
        return Path(self.remote_url.removeprefix("file://"))

    @property
    def log(self) -> str:
        path = self.home / "log"
        return path.read_text() if path.exists() else ""

    def launch(self) -> tuple[int, dict[str, Any]]:
        """Starts it; returns what it said about its start."""
        reading, writing = os.pipe()
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, self.python, "-I", "-m", "ckptd", "--config", str(self.config), "--ready-fd", str(writing)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writing, *self.pass_fds], env=self.environment,
            )  # fmt: skip
        os.close(writing)
        with open(reading, "rb") as ready:
            line = ready.readline()
        return self.process.pid, json.loads(line) if line else {}

    def start(self) -> None:
        _, said = self.launch()
        assert said.get("ok"), f"{said}\n{self.log}"

    def ctl(self, *arguments: str, timeout: float = 60, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "ckptctl", *arguments],
            capture_output=True, text=True, timeout=timeout, env=self.environment, check=False,
        )  # fmt: skip
        assert check is None or done.returncode == check, (
            f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}\n--- log\n{self.log[-4000:]}"
        )
        return done

    def json(self, *arguments: str, check: int | None = 0) -> Any:
        return json.loads(self.ctl(*arguments, "--json", check=check).stdout)

    def get(self, path: str, **query: object) -> Any:
        """Straight from the socket: for questions that are asked again and again."""
        return Client(str(self.home / "s")).get(path, **query)

    def checkpoint(self, run: str, step: int) -> dict[str, Any] | None:
        try:
            found = self.get(f"/v1/runs/{run}/checkpoints")
        except NotKnown:
            return None
        return next((item for item in found if item["step"] == step), None)

    def until(self, holds: Callable[[], Any], what: str, timeout: float = 30) -> Any:
        end = time.monotonic() + timeout
        while not (result := holds()):
            if time.monotonic() > end:
                raise AssertionError(f"not within {timeout} s: {what}\n--- log\n{self.log[-6000:]}")
            time.sleep(0.05)
        return result

    def committed(self, run: str, step: int, timeout: float = 30) -> dict[str, Any]:
        def holds() -> dict[str, Any] | None:
            found = self.checkpoint(run, step)
            return found if found and found["state"] == "committed" else None

        return self.until(holds, f"{run}@{step} committed", timeout)

    def state_is(self, run: str, step: int, state: str, timeout: float = 30) -> dict[str, Any]:
        def holds() -> dict[str, Any] | None:
            found = self.checkpoint(run, step)
            return found if found and found["state"] == state else None

        return self.until(holds, f"{run}@{step} {state}", timeout)

    def worker_pid(self) -> int:
        return int(self.json("status")["pid"])

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def crash(self) -> None:
        """Everything of it is killed at once, as by a power cut."""
        assert self.process is not None
        worker = self.worker_pid()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.until(lambda: not os.path.exists(f"/proc/{worker}"), "worker gone")
        self.process = None

    def end(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self.process = None


def save(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)


def is_mounted(path: Path) -> bool:
    return any(line.split()[1] == str(path) for line in Path("/proc/self/mounts").read_text().splitlines())


def clear_mounts(*paths: Path) -> None:
    """What a killed daemon leaves: the mount that nobody serves, and the tier's tmpfs."""
    for path in paths:
        with contextlib.suppress(OSError):
            while is_mounted(path):
                system.umount2(os.fsencode(path), mounting.MNT_DETACH)
