"""How fast copies are read against their checksums, beside what the machine allows at all.

    python tests/bench/bench_verify.py [--size MIB] [--rounds N]

All in one run and by turns: checksum of bytes in the cache and in memory, memcpy, pread alone, pread with checksum in one loop
(nothing around it), the mover's own reading path on one thread, and `ckptctl verify` of a whole checkpoint in RAM. The ceiling of
a reader that copies is 1 / (1 / pread + 1 / checksum): no checksum can be taken of bytes that were not read, on one core.
"""

from __future__ import annotations

import argparse
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from awscrt.checksums import crc64nvme

from ckptd.domain.model import Stamp
from ckptd.transfer import calls
from ckptd.transfer.checking import check_stretch
from ckptd.transfer.pacing import Pacer
from ckptd.transfer.reading import BLOCK, checksums_of
from ckptd.transfer.task import Task

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))
from tests_node_daemon import Daemon

MIB = 1 << 20
PART = 64 * MIB


def speed(size: int, work: Callable[[], object]) -> float:
    """GB/s of processor time of this thread: other work on the machine must not count."""
    begun = time.thread_time()
    work()
    return size / (time.thread_time() - begun) / 1e9


@contextmanager
def file_in_ram(size: int, folder: str = "/dev/shm") -> Iterator[str]:
    with tempfile.NamedTemporaryFile(dir=folder, prefix="ckptd-bench-") as file:
        block = os.urandom(MIB)
        for _ in range(size // MIB):
            file.write(block)
        file.flush()
        yield file.name


def single(size: int, rounds: int) -> dict[str, float]:
    """Medians, by what was measured."""
    found: dict[str, list[float]] = {}
    memory, other = mmap.mmap(-1, size), mmap.mmap(-1, size)
    view, target = memoryview(memory), memoryview(other)
    view[:] = os.urandom(MIB) * (size // MIB)
    small = view[: MIB // 4]
    buffer = memoryview(mmap.mmap(-1, BLOCK))
    with file_in_ram(size) as path:
        descriptor = os.open(path, os.O_RDONLY)
        status = os.fstat(descriptor)
        stamp = Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
        sums = checksums_of(descriptor, path, size, PART, lambda: None)
        task = Task(Pacer(0), lambda _count: None)

        def copy() -> None:
            target[:] = view

        def read(*, check: bool) -> None:
            crc = 0
            for offset in range(0, size, BLOCK):
                os.preadv(descriptor, [buffer], offset)
                if check:
                    crc = crc64nvme(buffer, crc)

        def mapped() -> None:
            with mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ) as found, memoryview(found) as pages:
                crc64nvme(pages, 0)

        measured: dict[str, Callable[[], object]] = {
            "checksum, in the cache": lambda: [crc64nvme(small, 0) for _ in range(size // len(small))],
            "checksum, in memory": lambda: crc64nvme(view, 0),
            "memcpy": copy,
            "pread": lambda: read(check=False),
            "pread + checksum, bare": lambda: read(check=True),
            "mmap + checksum, bare": mapped,
            "the reading path": lambda: check_stretch(calls.CheckStretch(path, stamp, PART, 1, sums.parts), task),
        }
        for _ in range(rounds):
            for name, work in measured.items():
                found.setdefault(name, []).append(speed(size, work))
        os.close(descriptor)
    return {name: median(values) for name, values in found.items()}


@contextmanager
def huge_tmpfs(size: int) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="ckptd-bench-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"huge=always,size={size + 64 * MIB}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        os.rmdir(folder)


def on_huge_pages(size: int, rounds: int) -> float:
    """The reading path, GB/s for each second of processor time of its thread and of the child that maps. Needs root."""
    task = Task(Pacer(0), lambda _count: None)
    found: list[float] = []
    with huge_tmpfs(size) as folder, file_in_ram(size, folder) as path:
        descriptor = os.open(path, os.O_RDONLY)
        status = os.fstat(descriptor)
        stamp = Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
        sums = checksums_of(descriptor, path, size, PART, lambda: None)
        os.close(descriptor)
        call = calls.CheckStretch(path, stamp, PART, 1, sums.parts)
        check_stretch(call, task)  # starts the child
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        for _ in range(rounds):
            before = time.thread_time() + sum(map(processor_time, children))
            check_stretch(call, task)
            found.append(size / (time.thread_time() + sum(map(processor_time, children)) - before) / 1e9)
    return median(found)


def processor_time(pid: str) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def whole(size: int, rounds: int) -> tuple[float, float]:
    """`ckptctl verify` of one checkpoint: GB/s by the clock, and GB/s a core (of the mover's processor time)."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory(dir="/dev/shm") as ram:
        daemon = Daemon(Path(home, "node"), Path(ram, "tier"), ram_budget=f"{2 * size // MIB + 512}MiB", policy="")
        daemon.start()
        try:
            run = daemon.volume / "run-1/checkpoint-1"
            run.mkdir(parents=True)
            block = os.urandom(MIB)
            for number in range(4):
                with (run / f"shard-{number}.bin").open("wb") as file:
                    for _ in range(size // MIB // 4):
                        file.write(block)
            daemon.committed("run-1", 1, timeout=300)
            elapsed: list[float] = []
            used: list[float] = []
            for _ in range(rounds):
                before = mover_seconds(daemon)
                operation = daemon.json("verify", "run-1@1")
                elapsed.append(operation["seconds"])
                used.append(mover_seconds(daemon) - before)
        finally:
            daemon.end()
    return size / median(elapsed) / 1e9, size / max(0.01, median(used)) / 1e9


def mover_seconds(daemon: Daemon) -> float:
    """Processor time of the daemon's movers so far."""
    worker, ticks = daemon.worker_pid(), 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                name, _, rest = (entry / "stat").read_text().rpartition(")")
            except OSError:
                continue
            fields = rest.split()
            if "ckptd-mover" in name and int(fields[1]) == worker:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description="See the top of this file.")
    parser.add_argument("--size", type=int, default=1024, help="MiB; a multiple of 64")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size = options.size * MIB
    found = single(size, options.rounds)
    for name, value in found.items():
        print(f"{name:28} {value:6.1f} GB/s a core")
    ceiling = 1 / (1 / found["pread"] + 1 / found["checksum, in the cache"])
    print(f"{'ceiling of a copying reader':28} {ceiling:6.1f} GB/s a core")
    print(f"{'the path / the ceiling':28} {found['the reading path'] / ceiling:6.2f}")
    if os.geteuid() == 0:
        print(f"{'the same path on huge pages':28} {on_huge_pages(size, options.rounds):6.1f} GB/s a core")
    clock, core = whole(size, options.rounds)
    print(f"{'ckptctl verify':28} {clock:6.1f} GB/s by the clock, {core:.1f} GB/s a core")


if __name__ == "__main__":
    main()
