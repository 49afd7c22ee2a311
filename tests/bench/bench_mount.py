"""The mount front beside tmpfs, JuiceFS and rclone: large files, saves of frameworks, small files, creations during uploads.

    python tests/bench/bench_mount.py [--size 2GiB] [--rounds 5] [--frameworks PYTHON] [--json FILE] [--svg FILE] …

As root. A real daemon serves a mount with a `file://` remote on the disk of the temporary directory. Subjects take turns, round
by round, in changing order. A ratio is the median of the other's seconds over the median of ours: above 1 we are faster; in
brackets the least and the most of single rounds.

Before every turn as much memory as it needs is touched and freed: on a virtual machine whose host takes free memory back, the
first touch of a page costs several times its copy, and whoever came first would pay for all.

While anything but the last row is timed, nobody uploads: the daemon by policy (`sync=latest`, and a settle time that does not
end), JuiceFS and rclone by their delays. Files are removed after each turn. What cannot be measured is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import mount_peers as peers
import mount_picture
import mount_work as work
from bench_s3 import size_of

from ckptd.fronts.mount.possible import refused_here

sys.path.insert(0, str(Path(__file__).parent.parent / "node"))

from tests_node_daemon import Daemon, clear_mounts

GIB = 1 << 30
PLAIN, SHM = "tmpfs, the same options", "/dev/shm"
JUICEFS, RCLONE = "JuiceFS --writeback", "rclone --vfs-cache-mode full"
SQLITE, REDIS = "JuiceFS, SQLite", "JuiceFS, Redis"
SMALL_WORK = ("create", "open, read", "stat", "unlink")
AIMS: dict[tuple[str, str], float] = {
    ("write", PLAIN): 0.90, ("read", PLAIN): 0.95, ("write", SHM): 2.0, ("read", SHM): 1.0,
    ("torch.save", SHM): 1.5, ("save_file", SHM): 2.0,
    ("torch.save without CRC-32", SHM): 0, ("torch.save", PLAIN): 0, ("save_file", PLAIN): 0,
    **{(what, peer): 5.0 for peer in (JUICEFS, RCLONE) for what in ("write", "read")},
    ("read again", JUICEFS): 0, ("read again", RCLONE): 0,
    **{(what, SQLITE): 2.0 for what in SMALL_WORK}, **{(what, REDIS): 1.0 for what in SMALL_WORK},
}  # fmt: skip
"""Ratios at least; 0: shown to explain another, without an aim."""
MOST_MS = 20.0
"""The most that 99 of 100 creations may take while eight uploads run."""

Turn = Callable[[Path, int], dict[str, float]]


@dataclass(frozen=True)
class Row:
    """`ours` and `theirs`: medians of seconds; of the row without a peer the 99th percentile and the aim, in ms."""

    work: str
    peer: str
    ours: float
    theirs: float
    ratio: float
    least: float
    most: float
    aim: float
    rounds: int

    @property
    def met(self) -> bool:
        return self.ratio >= self.aim if self.peer else self.ours <= self.aim


def main() -> int:
    options = parse()
    if reason := refused_here():
        print(f"nothing measured: {reason}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up
    home = Path(tempfile.mkdtemp(prefix="ckptd-bench-"))
    ram = Path(tempfile.mkdtemp(prefix="ckptd-bench-", dir="/dev/shm"))
    rows: list[Row] = []
    began = time.monotonic()
    try:
        with (
            peers.tmpfs(ram / "plain", f"huge=within_size,size={3 * options.size}"),
            serving(home, ram, options) as daemon,
        ):
            rows += large_files(daemon, ram, options)
            rows += frameworks(daemon, ram, options)
            rows += beside_peers(daemon, ram, options)
            rows += small_files(daemon, ram, options)
            rows += creating(daemon, options)
    finally:
        shutil.rmtree(home)
        shutil.rmtree(ram)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, Linux {os.uname().release}, load {load}, "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip
    print("\n".join(table(rows)))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) | {"met": row.met} for row in rows], indent=1) + "\n")
    if options.svg:
        options.svg.write_text(mount_picture.draw([asdict(row) | {"met": row.met} for row in rows if row.aim]))
    return 0


@contextmanager
def serving(home: Path, ram: Path, options: argparse.Namespace) -> Iterator[Daemon]:
    """A daemon with a mounted volume, whose run `work` is not uploaded."""
    tier = ram / "tier"
    daemon = Daemon(
        home / "node", tier, remote=f"file://{home}/remote", ram_budget=str(3 * options.size + 2 * GIB), front="mount"
    )
    try:
        daemon.start()
        daemon.ctl("policy", "set", "work", "sync=latest", "settle=10h")
        (volume,) = daemon.json("status")["volumes"]
        if not volume["passthrough"]:
            print(f"without passthrough: {volume['front_reason']}")
        yield daemon
        daemon.ctl("down", "--no-flush", check=None)
    finally:
        daemon.end()
        clear_mounts(daemon.volume, tier)


def take_turns(title: str, subjects: dict[str, Path], turn: Turn, rounds: int) -> list[Row]:
    """The first subject is ours. Its median over everybody else's, for each kind of work that has an aim."""
    taken: dict[tuple[str, str], list[float]] = {}
    names = list(subjects)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first] if number % 2 else reversed(names[first:] + names[:first]):
            for what, seconds in turn(subjects[name], number).items():
                taken.setdefault((what, name), []).append(seconds)
        print(f"{title}, round {number + 1} of {rounds}: " + ", ".join(
            f"{what} {name} {1000 * values[-1]:.4g} ms" for (what, name), values in taken.items()
        ), file=sys.stderr, flush=True)  # fmt: skip
    rows = []
    for (what, peer), aim in AIMS.items():
        if (what, peer) in taken and peer in subjects:
            ours, theirs = taken[what, names[0]], taken[what, peer]
            each = [their / our for our, their in zip(ours, theirs, strict=True)]
            middle, other = statistics.median(ours), statistics.median(theirs)
            rows.append(Row(what, peer, middle, other, other / middle, min(each), max(each), aim, rounds))
    return rows


def large_files(daemon: Daemon, ram: Path, options: argparse.Namespace) -> list[Row]:
    def turn(top: Path, number: int) -> dict[str, float]:
        work.touch(ram / "plain", options.size + GIB // 4)
        written, reads = work.write_and_read(top, number, options.size, 3)
        return {
            "write": written,
            "read": statistics.median(reads),
        }  # short: a single one is moved by whatever else runs

    subjects = {"ckptd": daemon.volume, PLAIN: ram / "plain", SHM: ram / "shm"}
    return take_turns("large files", subjects, turn, options.rounds)


def frameworks(daemon: Daemon, ram: Path, options: argparse.Namespace) -> list[Row]:
    if not options.frameworks.exists():
        print(
            f"torch.save and save_file are left out: no {options.frameworks} (make frameworks, or --frameworks PYTHON)"
        )
        return []
    saver = work.Frameworks(options.frameworks, options.size // 2)

    subjects = {"ckptd": daemon.volume, PLAIN: ram / "plain", SHM: ram / "shm"}

    def turn(top: Path, number: int) -> dict[str, float]:
        work.touch(ram / "plain", options.size)
        return saver.save(top, number)

    try:
        print(saver.versions)
        saver.save(ram / "shm", -1)  # the first save of a process also loads what it needs
        return take_turns("frameworks", subjects, turn, options.rounds)
    finally:
        saver.end()


def beside_peers(daemon: Daemon, ram: Path, options: argparse.Namespace) -> list[Row]:
    def turn(top: Path, number: int) -> dict[str, float]:
        work.touch(ram / "plain", 2 * options.size)  # a cache keeps the bytes a second time, in the page cache
        written, (read, again) = work.write_and_read(top, number, options.size, 2)
        return {"write": written, "read": read, "read again": again}  # again: a peer's bytes may be in the page cache

    with ExitStack() as stack:
        subjects = {"ckptd": daemon.volume}
        start(stack, subjects, JUICEFS, lambda: peers.juicefs(ram / "juicefs"))
        start(stack, subjects, RCLONE, lambda: peers.rclone(ram / "rclone"))
        return take_turns("peers", subjects, turn, options.peer_rounds)


def small_files(daemon: Daemon, ram: Path, options: argparse.Namespace) -> list[Row]:
    with ExitStack() as stack:
        subjects = {"ckptd": daemon.volume}
        start(stack, subjects, SQLITE, lambda: peers.juicefs(ram / "juicefs-sqlite"))
        try:
            url = stack.enter_context(peers.redis(ram / "redis"))
            start(stack, subjects, REDIS, lambda: peers.juicefs(ram / "juicefs-redis", url))
        except peers.Absent as reason:
            print(f"{REDIS} is left out: {reason}")
        return take_turns(
            "small files",
            subjects,
            lambda top, number: work.small_files(top, number, options.files),
            options.peer_rounds,
        )


def start(stack: ExitStack, subjects: dict[str, Path], name: str, peer: Callable[[], object]) -> None:
    try:
        subjects[name] = stack.enter_context(peer())  # type: ignore[arg-type]
    except peers.Absent as reason:
        print(f"{name} is left out: {reason}")


def creating(daemon: Daemon, options: argparse.Namespace) -> list[Row]:
    """Eight files are uploaded together, 16 parts at a time, once a round; the creations of all rounds count together."""
    taken: list[float] = []
    for number in range(options.peer_rounds):
        before = daemon.get("/v1/status")["transfers"]["sent_bytes"]
        checkpoint = daemon.volume / "uploads" / f"checkpoint-{number}"
        checkpoint.mkdir(parents=True)
        for shard in range(8):
            work.dd("/dev/urandom", checkpoint / f"shard-{shard}.bin", options.size // 8)
        daemon.until(lambda at=before: daemon.get("/v1/status")["transfers"]["sent_bytes"] > at, "an upload runs")
        flush = subprocess.Popen(
            [sys.executable, "-I", "-m", "ckptctl", "flush", "uploads", "--timeout", "5m"],
            env=daemon.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with work.folder(daemon.volume, 1000 + number) as directory:
                taken += work.creates_while(flush, directory)
        finally:
            flush.kill()
            flush.wait()
        shutil.rmtree(checkpoint)
    taken.sort()
    print(f"{len(taken)} files created while uploads ran: median {1000 * statistics.median(taken):.2f} ms, "
          f"most {1000 * taken[-1]:.1f} ms", flush=True)  # fmt: skip
    late = 1000 * taken[int(len(taken) * 0.99)]
    return [Row("create while 8 uploads run, p99", "", late, MOST_MS, 0, 0, 0, MOST_MS, options.peer_rounds)]


def table(rows: list[Row]) -> Iterator[str]:
    yield "| work | beside | ckptd | beside it | ratio (rounds) | at least | |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        verdict = "met" if row.met else "missed"
        if not row.peer:
            yield f"| {row.work} | | {row.ours:.1f} ms | | | <= {row.aim:.0f} ms | {verdict} |"
            continue
        shown = [f"{1e6 * value:.0f} µs" if value < 0.01 else f"{value:.2f} s" for value in (row.ours, row.theirs)]
        ratio = f"{row.ratio:.2f} ({row.least:.2f} to {row.most:.2f})"
        yield f"| {row.work} | {row.peer} | {shown[0]} | {shown[1]} | {ratio} | {row.aim or ''} | {verdict if row.aim else ''} |"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=size_of, default=2 * GIB, help="of a large file; saves are half of it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=1000, help="small files a round")
    parser.add_argument("--peer-rounds", type=int, default=3, help="of the slower comparisons")
    parser.add_argument(
        "--frameworks", type=Path, default=Path(__file__).parents[2] / ".venv-frameworks/bin/python", metavar="PYTHON"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also writes the rows there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draws them")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
