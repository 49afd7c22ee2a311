"""`make demo`: a training run saves at memory speed, is killed in the middle of a save and resumes on another "node".

Both nodes are daemons on this machine, each with its own state, tiers and volume; they share only the remote, which
is a plain directory here. Everything lies under .demo/ (CKPTD_DEMO_DIR) and /dev/shm, and is removed at the end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Figures, cold_read_seconds, show_table
from nodes import DemoFailed, Node, say

HERE = Path(__file__).resolve().parent
RUN = "run-42"
EVERY, TORN_STEP, LAST_STEP = 3, 12, 18
GOOD_STEP = TORN_STEP - EVERY
MEBI = 1 << 20


@dataclass
class Training:
    """The unchanged script in a process of its own, and what it noted down."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, output: Path, log: Path, *more: str, hidden: int) -> Training:
        command = [sys.executable, HERE / "train.py", "--output-dir", output, "--log", log, "--save-every", str(EVERY)]
        process = subprocess.Popen([*command, "--hidden", str(hidden), "--steps", str(LAST_STEP), *more])
        return cls(process, log)

    def wait(self) -> list[dict[str, Any]]:
        try:
            code = self.process.wait()
        finally:
            self.process.kill()  # Ctrl-C while it runs
            self.process.wait()
        if code:
            raise DemoFailed(f"the training ended with exit code {code}")
        return self.notes()

    def notes(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def kill_inside_save(self, folder: Path) -> list[str]:
        """SIGKILL when the first of the save's files is whole; returns the names that are there then."""
        try:
            while self.process.poll() is None:
                if (folder / "model.safetensors").exists():
                    break
                time.sleep(0.0005)
        finally:
            self.process.kill()
            self.process.wait()
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def hidden_size() -> int:
    """124 MB a checkpoint, less where /dev/shm is small (containers often have 64 MB)."""
    room = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").exists() else 0
    return 3072 if room > 2048 * MEBI else 1024 if room > 512 * MEBI else 384


def warm_up(hidden: int) -> None:
    """On a virtual machine the first touch of a page costs many times the second: not what is compared here."""
    block = bytes(16 * MEBI)
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        for _ in range(hidden**2 * 12 * 5 // len(block)):  # five checkpoints
            file.write(block)


def train_and_kill(node: Node, logs: Path, hidden: int) -> list[dict[str, Any]]:
    folder = node.volume / RUN / f"checkpoint-{TORN_STEP}"
    framework = "torch" if importlib.util.find_spec("torch") else "numpy"
    say(f"\nTraining ({framework}, a process of its own, no ckptd in it) saves into {RUN} every {EVERY} steps …")
    for attempt in range(5):
        log = logs / f"killed-{attempt}.jsonl"
        training = Training.start(node.volume / RUN, log, hidden=hidden)
        left = training.kill_inside_save(folder)
        if left and "trainer_state.json" not in left:
            say(f"… killed with SIGKILL while it saved step {TORN_STEP}. What it left there: {', '.join(left)}")
            return training.notes()
        shutil.rmtree(folder, ignore_errors=True)  # the save was faster than the signal: once more
    raise DemoFailed("the training saved faster than it could be killed, five times")


def resume_elsewhere(node: Node, logs: Path, hidden: int) -> tuple[list[dict[str, Any]], float]:
    begun = time.perf_counter()
    node.show("prefetch", RUN)
    prefetch_s = time.perf_counter() - begun
    path = node.text("latest", RUN).strip()
    say(f'\n{node.name}$ python train.py --resume "$(ckptctl latest {RUN})"     # {os.path.relpath(path, node.home)}')
    return Training.start(node.volume / RUN, logs / "resumed.jsonl", "--resume", path, hidden=hidden).wait(), prefetch_s


def prove(killed: list[dict[str, Any]], resumed: list[dict[str, Any]], remote: Path) -> None:
    """The state that was resumed from is, tensor by tensor, what the killed run had when it saved that step."""
    from train import digest, load_file

    folder = remote / RUN / f"checkpoint-{GOOD_STEP}"
    meant = next(note["sha256"] for note in killed if note["step"] == GOOD_STEP)
    plain = digest(*(load_file(folder / f"{part}.safetensors") for part in ("model", "optimizer")))
    got = resumed[0]
    if got["event"] != "resumed" or got["step"] != GOOD_STEP:
        raise DemoFailed(f"resumed from step {got['step']}, not from {GOOD_STEP}, the newest committed one")
    if not meant == plain == got["sha256"]:
        raise DemoFailed(f"the tensors differ: saved {meant}, in the remote {plain}, resumed {got['sha256']}")
    if not all(note.get("same", True) for note in (*killed, *resumed)):
        raise DemoFailed("a checkpoint read back right after its save differed from what was saved")
    say(f"resumed from step {GOOD_STEP}: all tensors equal those of the killed run and the plain files in the remote")
    say(f"(SHA-256 {meant[:16]}…), and it trained on to step {resumed[-1]['step']}")


def story(work: Path, nodes: contextlib.ExitStack) -> None:
    remote, logs, hidden = work / "remote", work / "logs", hidden_size()
    remote.mkdir()
    logs.mkdir()
    first, second = (Node(name, work / name, f"file://{remote}") for name in ("node-a", "node-b"))
    nodes.callback(first.remove)
    first.up()
    warm_up(hidden)
    killed = train_and_kill(first, logs, hidden)
    first.wait_for(RUN, TORN_STEP, "torn")
    first.show("ls", RUN)
    first.show("flush", RUN)
    committed_at = first.committed(RUN)

    say("\nNow another node: its own daemon, tiers and directory; only the remote is the same.")
    nodes.callback(second.remove)
    second.up()
    resumed, prefetch_s = resume_elsewhere(second, logs, hidden)
    prove(killed, resumed, remote)

    say("\nThe same training straight into a directory beside the remote, for comparison …")
    straight = Training.start(work / "straight", logs / "straight.jsonl", hidden=hidden).wait()
    cold_s = cold_read_seconds(work / "straight" / f"checkpoint-{GOOD_STEP}")
    shutil.rmtree(work / "straight")
    synced = Training.start(work / "straight", logs / "synced.jsonl", "--fsync", hidden=hidden).wait()
    if straight[-1]["sha256"] == resumed[-1]["sha256"]:
        say("… which was never killed, and ended with exactly the weights of the resumed one.")
    show_table(Figures(killed, straight, synced, committed_at, prefetch_s, cold_s))


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up like Ctrl-C
    base = Path(os.environ.get("CKPTD_DEMO_DIR") or HERE.parent / ".demo")
    base.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="", dir=base))
    begun = time.monotonic()
    try:
        with contextlib.ExitStack() as nodes:
            story(work, nodes)
    except DemoFailed as error:
        say(f"\nThe demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nInterrupted; everything is cleaned up.")
        return 130
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"\nDone in {time.monotonic() - begun:.0f} s; daemons, tiers and files of the demo are gone.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
