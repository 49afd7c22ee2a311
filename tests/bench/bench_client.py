"""What bench_s3 and bench_memory measure: a process that holds `Transfers`, as the worker does, and moves files.

Run as a script with one JSON document as input; prints one: seconds of the moving itself (the movers run before, as
in a daemon). Its CPU time, with that of its movers, is taken by the caller from the resources of its ended children.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path

import structlog

from ckptd.domain.model import Checksums, Stamp
from ckptd.transfer.transfers import Remote, Transfers


class NoJournal:
    """Remembers nothing: a benchmark is not resumed."""

    async def load(self, key):
        return None

    async def begin(self, key, unfinished):
        pass

    async def part_done(self, key, part):
        pass

    async def forget(self, key):
        pass


async def main(task: dict) -> dict:
    remote = Remote("bench", task["url"], tuple(task["options"].items()))
    settings = {"parallel": 16, "part_size": 64 << 20, "bandwidth": 0, "movers": 1} | task.get("settings", {})
    paths = [Path(path) for path in task["paths"]]
    async with Transfers(journal=NoJournal(), **settings) as transfers:
        await transfers.probe(remote)  # as `up` does: what a store is reached by is loaded and connected
        began, cpu = time.monotonic(), cpu_seconds(transfers)
        async with asyncio.TaskGroup() as group:
            work = up if task["direction"] == "up" else down
            tasks = [group.create_task(work(transfers, remote, path, task)) for path in paths]
        seconds = time.monotonic() - began
        moving = cpu_seconds(transfers) - cpu
    sums = {path.name: each.result() for path, each in zip(paths, tasks, strict=True)}
    return {"seconds": seconds, "moving_cpu": moving, "sums": sums}


async def up(transfers, remote, path, task):
    status = os.stat(path)
    stamp = Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
    sums = (await transfers.upload(remote, path.name, str(path), stamp, journal_key=path.name)).checksums
    return [sums.size, sums.part_size, sums.parts, sums.whole]


async def down(transfers, remote, path, task):
    size, part_size, parts, whole = task["sums"][path.name]
    sums = Checksums(size, part_size, tuple(parts), whole)
    await transfers.download(remote, path.name, str(path), checksums=sums, journal_key=path.name)


def cpu_seconds(transfers) -> float:
    """User and system time so far, of this process and its movers."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ticks = os.sysconf("SC_CLK_TCK")
    total = own.ru_utime + own.ru_stime
    for pid in transfers.mover_pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / ticks
    return total


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    print(json.dumps(asyncio.run(main(json.loads(sys.stdin.read())))))
