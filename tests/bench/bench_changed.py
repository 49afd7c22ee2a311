"""What a fine-tuning run with frozen weights sends after its first checkpoint, and what looking for it costs a run that has
none.

    python tests/bench/bench_changed.py [--base 1GiB] [--changed 48MiB] [--checkpoints 4] [--full 256MiB] [--rounds 6]

First part: a real daemon saves checkpoints of the same base weights in 4 files, with an adapter and an optimizer that
change, to S3 and to a directory. What the S3 server received is counted by the tests' proxy before it, not by ckptd; for
the directory there is only ckptd's own count. Exit code 1 if a later checkpoint sent more than a tenth of its bytes.

Second part: everything changes. Two daemons take turns, one with `transfer.reuse`, one without; printed are the medians
of the time from the last write to the commit, and of the CPU time of worker and movers, and their ratios.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bench_resend import LONGEST_S, start
from bench_s3 import MIB, server, size_of

sys.path.insert(0, str(Path(__file__).parent.parent))

from servers.fault_proxy import FaultProxy

from ckptctl.client import Client

MOST = 0.10
"""Of a checkpoint's bytes, after the first one."""
FILES = 4
CONFIG = """
[node]
name = "bench"
state_dir = "{home}/state"
socket = "{home}/s"
[tiers.ram]
path = "{ram}"
budget = "{budget}"
[tiers.nvme]
budget = 0
[transfer]
reuse = {reuse}
[[volumes]]
name = "ckpt"
path = "{home}/ckpt"
remote = "{remote}"
{options}
[volumes.policy]
settle = "300ms"
keep_hot = 1
keep_nvme = 1
"""


class Node:
    """A daemon, and what can be seen of it."""

    def __init__(self, home: Path, process: subprocess.Popen[bytes]) -> None:
        self.home, self.process = home, process
        self.client = Client(str(home / "s"))

    def save(self, step: int, files: dict[str, memoryview]) -> dict[str, float]:
        """Returns what its commit says: `bytes_sent`, `bytes_copied`, `seconds` since the last write."""
        directory = self.home / f"ckpt/run/checkpoint-{step}"
        directory.mkdir(parents=True)
        for name, content in files.items():
            (directory / name).write_bytes(content)
        end = time.monotonic() + LONGEST_S
        while time.monotonic() < end:
            for event in reversed(self.client.get("/v1/events")):
                if event["event"] == "checkpoint.committed" and event["fields"]["step"] == str(step):
                    return {name: float(event["fields"][name]) for name in ("bytes_sent", "bytes_copied", "seconds")}
            time.sleep(0.05)
        raise SystemExit(f"waited {LONGEST_S:.0f} s for the commit of step {step}")

    def cpu_seconds(self) -> float:
        """Of the worker and its movers, so far."""
        worker = int(self.client.get("/v1/status")["pid"])
        children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
        total = 0
        for pid in (worker, *map(int, children)):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")


@contextmanager
def node(remote: str, endpoint: str = "", *, reuse: bool = True, budget: int = 4 << 30) -> Iterator[Node]:
    home = Path(tempfile.mkdtemp(prefix="ckptd-bench-"))
    ram = Path(tempfile.mkdtemp(prefix="ckptd-bench-", dir="/dev/shm"))
    options = f'[volumes.options]\nendpoint_url = "{endpoint}"\nread_timeout = "120"' if endpoint else ""
    try:
        (home / "config.toml").write_text(
            CONFIG.format(home=home, ram=ram / "tier", budget=budget, reuse=str(reuse).lower(), options=options,
                          remote=remote.format(home=home))
        )  # fmt: skip
        process = start(home)
        try:
            yield Node(home, process)
        finally:
            process.terminate()
            process.wait(120)
    finally:
        shutil.rmtree(home)
        shutil.rmtree(ram)


def main() -> int:
    options = parse()
    with server() as target, FaultProxy(urlsplit(target.endpoint).port or 0) as proxy:
        worst = 0.0
        with node(f"s3://{target.bucket}/changed", proxy.endpoint) as daemon:
            worst = frozen("s3", daemon, options, proxy)
        with node("file://{home}/remote") as daemon:
            worst = max(worst, frozen("file", daemon, options))
        print(f"\nlargest share after the first checkpoint: {worst:.1%} (target <= {MOST:.0%})\n")
        if options.rounds:
            full(options, target.bucket, target.endpoint)
    return worst > MOST


def frozen(kind: str, daemon: Node, options: argparse.Namespace, proxy: FaultProxy | None = None) -> float:
    """Prints a line a checkpoint; returns the largest share that a later one sent."""
    base = shards(options.base)
    print(f"{kind}: {options.base >> 20} MiB frozen in {FILES} files, {options.changed >> 20} MiB that change")
    shares = []
    for step in range(1, options.checkpoints + 1):
        changing = {"adapter_model.bin": noise(options.changed // 3), "optimizer.pt": noise(options.changed * 2 // 3)}
        files = base | changing
        size, before = sum(map(len, files.values())), proxy.body_bytes if proxy else 0
        told = daemon.save(step, files)
        received = proxy.body_bytes - before if proxy else int(told["bytes_sent"])
        shares.append(received / size)
        counted = f"server received {received / MIB:7.1f} MiB ({shares[-1]:6.1%}), " if proxy else ""
        print(
            f"  checkpoint {step}: {size / MIB:7.1f} MiB, {counted}sent {told['bytes_sent'] / MIB:7.1f}, "
            f"copied {told['bytes_copied'] / MIB:7.1f} MiB, committed after {told['seconds']:5.1f} s",
            flush=True,
        )
    return max(shares[1:], default=0.0)


class Turn(NamedTuple):
    seconds: float
    cpu: float


def full(options: argparse.Namespace, bucket: str, endpoint: str) -> None:
    results: dict[bool, list[Turn]] = {True: [], False: []}
    with ExitStack() as stack:
        nodes = {
            reuse: stack.enter_context(node(f"s3://{bucket}/full-{reuse}", endpoint, reuse=reuse))
            for reuse in (True, False)
        }
        for step in range(1, options.rounds + 2):
            files = shards(options.full)
            for reuse in (True, False) if step % 2 else (False, True):
                before = nodes[reuse].cpu_seconds()
                told = nodes[reuse].save(step, files)
                if step > 1:  # the first one has nothing to be compared with
                    results[reuse].append(Turn(told["seconds"], nodes[reuse].cpu_seconds() - before))
    print(f"everything changes: {options.full >> 20} MiB in {FILES} files, {options.rounds} rounds by turns, medians")
    medians = {reuse: Turn(*map(statistics.median, zip(*turns, strict=True))) for reuse, turns in results.items()}
    for reuse, turn in medians.items():
        print(f"  reuse = {str(reuse).lower():5}  committed after {turn.seconds:5.2f} s, {turn.cpu:5.2f} s CPU")
    on, off = medians[True], medians[False]
    print(f"  with / without: time {on.seconds / off.seconds:.3f}, CPU {on.cpu / off.cpu:.3f}")


def shards(size: int) -> dict[str, memoryview]:
    return {f"model-{number:05}-of-{FILES:05}.bin": noise(size // FILES) for number in range(1, FILES + 1)}


def noise(size: int) -> memoryview:
    return memoryview(os.urandom(size))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", type=size_of, default=size_of("1GiB"))
    parser.add_argument("--changed", type=size_of, default=48 * MIB)
    parser.add_argument("--checkpoints", type=int, default=4)
    parser.add_argument("--full", type=size_of, default=256 * MIB)
    parser.add_argument("--rounds", type=int, default=6)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
