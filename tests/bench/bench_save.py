"""What a save into a watched directory costs the job: the same save with and without a daemon, in turn.

    python tests/bench/bench_save.py [--size-mib 512] [--files 8] [--rounds 9]

A "save" writes `--files` files of random bytes and closes them, as frameworks do; the daemon is a real one with a
directory as remote. Prints the ratio of the medians: 1.00 means that the job does not notice the daemon.
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
from pathlib import Path

CHUNK = 4 << 20


def save(directory: Path, content: memoryview, files: int) -> float:
    directory.mkdir(parents=True)
    part = len(content) // files
    began = time.perf_counter()
    for number in range(files):
        with (directory / f"shard-{number}.bin").open("wb", buffering=0) as file:
            for offset in range(number * part, (number + 1) * part, CHUNK):
                file.write(content[offset : min(offset + CHUNK, (number + 1) * part)])
    (directory / "DONE").touch()
    return time.perf_counter() - began


def run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--size-mib", type=int, default=512)
    arguments.add_argument("--files", type=int, default=8)
    arguments.add_argument("--rounds", type=int, default=9)
    asked = arguments.parse_args()
    content = memoryview(os.urandom(asked.size_mib << 20))
    home = Path(tempfile.mkdtemp(prefix="ckptd-bench-"))
    ram = Path(tempfile.mkdtemp(prefix="ckptd-bench-", dir="/dev/shm"))
    plain = Path(tempfile.mkdtemp(prefix="ckptd-bench-plain-", dir="/dev/shm"))
    ctl = [sys.executable, "-I", "-m", "ckptctl", "--socket", str(home / "s")]
    environment = dict(os.environ) | {"CKPTD_TIERS_RAM_PATH": str(ram / "tier")}
    up = [*ctl, "up", str(home / "ckpt"), "--remote", f"file://{home}/remote", "--state-dir", str(home / "state")]
    times: dict[str, list[float]] = {"without": [], "with": []}
    try:
        for number in range(asked.rounds + 1):
            without = save(plain / f"step-{number}", content, asked.files)
            shutil.rmtree(plain / f"step-{number}")
            run(up, environment)
            within = save(home / "ckpt" / "run" / f"step-{number}", content, asked.files)
            run([*ctl, "flush"], environment)
            run([*ctl, "rm", "run", "--remote", "--yes"], environment)
            run([*ctl, "down"], environment)
            if number:  # the first touch of memory is slow on a virtual machine
                times["without"].append(without)
                times["with"].append(within)
                print(f"{number}: {without * 1000:.0f} ms without, {within * 1000:.0f} ms with", flush=True)
    finally:
        subprocess.run([*ctl, "down", "--no-flush"], check=False, capture_output=True)
        for directory in (home, ram, plain):
            shutil.rmtree(directory, ignore_errors=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"save of {asked.size_mib} MiB in {asked.files} files, medians of {asked.rounds}:")
    print(f"without a daemon {medians['without'] * 1000:.0f} ms, with {medians['with'] * 1000:.0f} ms")
    print(f"speed with / without: {medians['without'] / medians['with']:.2f}")


if __name__ == "__main__":
    main()
