"""One checkpoint of very many files: saved, committed, listed, and prefetched by a second node.

    python tests/bench/bench_files.py [--files 100000] [--size 64]

The files are small and many to a directory, as a sharded array store writes them. Meanwhile `/v1/status` is asked five times a
second, and the worker's private memory (USS) is sampled. Exit code 1 if a limit is missed. file:// remote.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_memory import private

sys.path.insert(0, str(Path(__file__).parent.parent / "node"))

from tests_node_daemon import Daemon

MIB = 1 << 20
LIMITS = {"worst status s": 1.0, "memory MiB": 600.0}
A_DIRECTORY = 1000
"""Files in each."""


class Watched:
    """What a daemon's status took while something went on, and the most memory of its worker."""

    def __init__(self, daemon: Daemon) -> None:
        self.taken: list[float] = []
        self.memory = 0
        self._daemon = daemon
        self._worker = daemon.worker_pid()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            begun = time.monotonic()
            self._daemon.get("/v1/status")
            self.taken.append(time.monotonic() - begun)
            self.memory = max(self.memory, private(self._worker))

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def main() -> int:
    options = parse()
    home = Path(tempfile.mkdtemp(prefix="ckptd-bench-"))
    ram = Path(tempfile.mkdtemp(prefix="ckptd-bench-", dir="/dev/shm"))
    nodes = [
        Daemon(
            home / name, ram / name, remote=f"file://{home}/remote", volume=ram / name / "volumes/ckpt",
            ram_budget="8GiB",
        )
        for name in ("one", "two")
    ]  # fmt: skip
    missed: list[str] = []
    try:
        one, two = nodes
        begun = time.monotonic()
        write(ram / "bare", options.files, options.size)
        print(f"the same save without a daemon: {time.monotonic() - begun:.2f} s", flush=True)
        shutil.rmtree(ram / "bare")
        one.start()
        with phase("save, commit", one, missed) as said:
            begun = time.monotonic()
            write(one.volume / "run/step-1", options.files, options.size)
            said["write s"] = time.monotonic() - begun
            one.until(lambda: list((home / "remote/.ckptd").rglob("one.json")), "committed", timeout=3600)
        manifest = next((home / "remote/.ckptd").rglob("one.json"))
        print(
            f"manifest {manifest.stat().st_size / MIB:.1f} MiB, {manifest.stat().st_size / options.files:.0f} bytes a file"
        )
        with phase("ls", one, missed) as said:
            assert one.json("ls", "run@1")
        two.start()
        with phase("prefetch", two, missed):
            two.ctl("prefetch", "run@1", timeout=3600)
        assert sum(path.is_file() for path in (two.volume / "run").rglob("*")) == options.files
        one.end()
        begun = time.monotonic()
        one.start()
        print(f"restart: {time.monotonic() - begun:.1f} s, {private(one.worker_pid()) / MIB:.0f} MiB")
    finally:
        for node in nodes:
            node.end()
        shutil.rmtree(home)
        shutil.rmtree(ram)
    print("all limits met" if not missed else f"MISSED: {', '.join(missed)}")
    return bool(missed)


@contextmanager
def phase(name: str, daemon: Daemon, missed: list[str]) -> Iterator[dict[str, float]]:
    """Measures and prints; the limits are judged."""
    said: dict[str, float] = {}
    watched, begun = Watched(daemon), time.monotonic()
    try:
        yield said
    finally:
        said["s"] = time.monotonic() - begun
        watched.end()
    said["median status s"] = statistics.median(watched.taken or [0.0])
    said["worst status s"] = max(watched.taken, default=0.0)
    said["memory MiB"] = watched.memory / MIB
    print(f"{name}: " + ", ".join(f"{value:.2f} {what}" for what, value in said.items()), flush=True)
    missed += [f"{name}: {what}" for what, limit in LIMITS.items() if said[what] > limit]


def write(directory: Path, files: int, size: int) -> None:
    for number in range(files):
        folder = directory / f"{number // A_DIRECTORY:04}"
        if number % A_DIRECTORY == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:06}").write_bytes(os.urandom(size))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=2048, help="bytes of each")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
