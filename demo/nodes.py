"""A "node" of the demo: its own state directory, tiers and volume, spoken to through `ckptctl` like by anybody."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


class DemoFailed(Exception):
    """Something did not hold that ckptd promises, or a command failed."""


def say(text: str = "") -> None:
    print(text, flush=True)


@dataclass
class Node:
    name: str
    home: Path
    """Everything it keeps on disk; its RAM tier lies in /dev/shm."""
    remote: str
    ram: Path | None = None

    @property
    def volume(self) -> Path:
        return self.home / "ckpt"

    @property
    def environment(self) -> dict[str, str]:
        """Free of this machine's own ckptd settings: neither its config file nor its CKPTD_ variables count."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("CKPTD_")}
        config = self.home / "empty.toml"
        config.write_text("[node]\n", encoding="ascii")
        return own | {
            "CKPTD_CONFIG": str(config),
            "CKPTD_STATE_DIR": str(self.home / "state"),
            "CKPTD_NODE": self.name,
            "COLUMNS": str(max(100, shutil.get_terminal_size().columns)),
        }

    def show(self, *arguments: str) -> None:
        """Runs `ckptctl` for the reader to see, on his terminal."""
        say(f"\n{self.name}$ ckptctl {shlex.join(arguments)}")
        done = subprocess.run([BIN / "ckptctl", *arguments], env=self.environment, cwd=self.home, check=False)
        if done.returncode:
            raise DemoFailed(f"ckptctl {arguments[0]} ended with exit code {done.returncode}")

    def ask(self, *arguments: str) -> Any:
        """Runs `ckptctl … --json` for the demo itself."""
        return json.loads(self.text(*arguments, "--json"))

    def text(self, *arguments: str) -> str:
        done = subprocess.run(
            [BIN / "ckptctl", *arguments], env=self.environment, cwd=self.home, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise DemoFailed(f"ckptctl {shlex.join(arguments)} ended with exit code {done.returncode}: {done.stderr}")
        return done.stdout

    def up(self) -> None:
        self.home.mkdir(parents=True)
        settings = {row["key"]: row["value"] for row in self.ask("config", "show")}
        self.ram = Path(settings["tiers.ram.path"])
        self.show("up", "./ckpt", "--remote", self.remote)

    def checkpoints(self, run: str) -> dict[int, dict[str, Any]]:
        return {found["step"]: found for found in self.ask("ls", run)}

    def committed(self, run: str) -> dict[int, float]:
        """Step → when its manifest was in the remote, as the daemon's own events tell."""
        return {
            int(event["fields"]["step"]): datetime.fromisoformat(event["at"]).timestamp()
            for event in self.ask("events")
            if event["event"] == "checkpoint.committed" and event["fields"].get("run") == run
        }

    def wait_for(self, run: str, step: int, state: str, patience_s: float = 30) -> None:
        deadline = time.monotonic() + patience_s
        while (found := self.checkpoints(run).get(step, {}).get("state")) != state:
            if time.monotonic() > deadline:
                raise DemoFailed(f"{run}@{step} should be {state}, but {self.name} says {found}")
            time.sleep(0.2)

    def remove(self) -> None:
        """Stops the daemon and takes its tiers away, whatever state they are in."""
        if not self.home.exists():
            return
        subprocess.run(
            [BIN / "ckptctl", "down", "--no-flush", "--timeout", "10s"], env=self.environment, check=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        self._end_supervisor()  # where it could not be reached, e.g. because it was still starting
        if self.ram:
            if (
                self.ram.is_mount()
            ):  # it is kept where something in it is not durable yet: here what the killed save left
                subprocess.run(["umount", self.ram], check=False)
            shutil.rmtree(self.ram, ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def _end_supervisor(self) -> None:
        lock = self.home / "state/lock"
        pid = lock.read_text(encoding="ascii").strip() if lock.exists() else ""
        if not pid:  # it empties the file when it ends
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGTERM)
            for _ in range(150):
                os.kill(int(pid), 0)
                time.sleep(0.1)
            os.kill(int(pid), signal.SIGKILL)
