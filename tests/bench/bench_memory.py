"""Private memory (USS) of the process that holds `Transfers` and of its movers, while a large file goes up and comes back.

    python tests/bench/bench_memory.py [--size 4GiB] [--store file|s3] [--movers 1] [--parallel 16] [--folder /dev/shm]

Sampled every 50 ms from /proc/PID/smaps_rollup. The file to send lies on the disk; what comes back goes
to `--folder`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench_s3 import HERE, MIB, environment, server, size_of

LIMIT = 250 * MIB
"""What the worker may have at most."""


def main() -> int:
    options = parse()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ckptd-bench-")))
        back = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ckptd-bench-", dir=options.folder)))
        (folder / "store").mkdir()
        task = {"url": f"file://{folder}/store", "options": {}}
        if options.store == "s3":
            target = stack.enter_context(server())
            task = {"url": f"s3://{target.bucket}/memory", "options": {"endpoint_url": target.endpoint}}
        source = folder / "large"
        write(source, options.size)
        task["settings"] = {"movers": options.movers, "parallel": options.parallel}
        task |= {"direction": "up", "paths": [str(source)]}
        said, worst_up = watched(task)
        task |= {"direction": "down", "paths": [str(back / "large")], "sums": said["sums"]}
        _, worst_down = watched(task)
        size = f"{options.size / (1 << 30):.1f} GiB, {options.store}"
        worker = max(worst_up[0], worst_down[0])
        for direction, (own, mover) in (("up", worst_up), ("down", worst_down)):
            print(f"{size} {direction:4}  worker {own / MIB:5.1f} MiB   largest mover {mover / MIB:5.1f} MiB")
        print(
            f"worker at most {worker / MIB:.1f} MiB (limit {LIMIT / MIB:.0f}): {'met' if worker < LIMIT else 'MISSED'}"
        )
        return worker >= LIMIT


def watched(task: dict) -> tuple[dict, tuple[int, int]]:
    """What the client said; the most private bytes of itself, and of any mover."""
    client = subprocess.Popen(
        [sys.executable, str(HERE / "bench_client.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    client.stdin.write(json.dumps(task).encode())
    client.stdin.close()
    own = mover = 0
    while client.poll() is None:
        own = max(own, private(client.pid))
        mover = max([mover, *(private(pid) for pid in children(client.pid))])
        time.sleep(0.05)
    if client.returncode:
        raise SystemExit("the client failed")
    return json.loads(client.stdout.read()), (own, mover)


def private(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def write(path: Path, size: int) -> None:
    block = os.urandom(8 * MIB)
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: min(len(block), size - start)])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=size_of, default=size_of("4GiB"))
    parser.add_argument("--store", choices=["file", "s3"], default="s3")
    parser.add_argument("--movers", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=16)
    parser.add_argument("--folder", default="/dev/shm")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
