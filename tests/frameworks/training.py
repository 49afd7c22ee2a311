"""A training script in a process group of its own: run to its end, or stopped in the middle of a save and killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from interpreter import with_frameworks
from scenarios import Scenario

PATIENCE_S = 90.0
Said = list[dict[str, Any]]


class Training:
    """`--width` and the like in `arguments`; what it says goes to a file, since nobody reads while it runs."""

    def __init__(self, scenario: Scenario, volume: Path, *arguments: str) -> None:
        command = scenario.commands(with_frameworks().path, volume)[0]
        self._log = volume.parent / f"training-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=scenario.environment(), cwd=volume.parent, start_new_session=True,
            )  # fmt: skip

    def said(self) -> Said:
        lines = self.text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"') and line.endswith("}")]

    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def finish(self) -> Said:
        assert self.process.wait(PATIENCE_S) == 0, self.text()[-4000:]
        return self.said()

    def signal(self, number: signal.Signals) -> None:
        for pid in self._group():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """Returns when no process of it runs any more; each may be in the middle of anything."""
        end = time.monotonic() + PATIENCE_S
        self.signal(signal.SIGSTOP)
        while any(_state(pid) not in "TZX" for pid in self._group()):
            assert time.monotonic() < end, "its processes do not stop"
            self.signal(signal.SIGSTOP)
            time.sleep(0.001)

    def kill(self) -> None:
        """All of it, workers too. (torchrun gives each worker a session of its own: a group would not do.)"""
        self.stop()
        self.signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.kill()

    def _group(self) -> list[int]:
        """Its process and all that came from it."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    children = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                    found += [int(child) for child in children.split()]
        return found


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def killed_in_a_save(training: Training, run: Path, whole: Callable[[Path], bool], after: int) -> int:
    """Kills it while it saves a step later than `after`: some of that step's bytes are on disk, not all. Returns the step.

    It is stopped before it is looked at closely, and goes on if the save was over by then.
    """
    passed: set[str] = set()
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        assert training.process.poll() is None, training.text()[-4000:]
        for entry in _entries(run, passed):
            if step_of(entry) <= after or not _begun(entry):
                continue
            training.stop()
            if entry.exists() and _begun(entry) and not whole(entry):
                training.kill()
                return step_of(entry)
            passed.add(entry.name)
            training.signal(signal.SIGCONT)
        time.sleep(0.0005)
    raise AssertionError(f"no save could be caught in {PATIENCE_S} s\n{training.text()[-2000:]}")


def _entries(run: Path, passed: set[str]) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(run):
            if name not in passed and re.search(r"\d", name) and not (run / name).is_symlink():
                yield run / name


def _begun(entry: Path) -> bool:
    """Whether a byte of it is there."""
    try:
        files = [path for path in entry.rglob("*") if path.is_file()] if entry.is_dir() else [entry]
        return any(path.stat().st_size for path in files)
    except FileNotFoundError:
        return False


def step_of(entry: Path) -> int:
    """The last number of its name: `epoch=0-step=7.ckpt`, `7.orbax-checkpoint-tmp`."""
    return int(re.findall(r"\d+", entry.name.removesuffix(".h5"))[-1])


def whole_zip(entry: Path) -> bool:
    """torch's and Keras' files are ZIP archives, whose directory is written last."""
    return zipfile.is_zipfile(entry)


def has(marker: str) -> Callable[[Path], bool]:
    return lambda entry: (entry / marker).exists()


def renamed(entry: Path) -> bool:
    return "tmp" not in entry.name
