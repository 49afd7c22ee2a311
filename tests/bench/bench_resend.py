"""What a killed daemon sends again: it is killed with SIGKILL in the middle of a large upload and goes on by itself.

    python tests/bench/bench_resend.py [--size 2GiB] [--part-size 64MiB] [--parallel 16] [--kill worker|all] [--kills 2]

A real daemon, a real S3 server, and between them the tests' proxy, which counts requests to upload a part by the part's
number. Prints the parts in all, those that were on their way at each kill, and those sent more than once: the last must
not be more than the second. Exit code 1 if they are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bench_s3 import MIB, environment, server, size_of

sys.path.insert(0, str(Path(__file__).parent.parent))

from servers.fault_proxy import FaultProxy

LONGEST_S = 900.0
CONFIG = """
[node]
name = "bench"
state_dir = "{home}/state"
socket = "{home}/s"
[tiers.ram]
path = "{ram}/tier"
budget = "{budget}"
[tiers.nvme]
path = "{home}/nvme"
budget = "{budget}"
[transfer]
parallel = {parallel}
part_size = {part_size}
[[volumes]]
name = "ckpt"
path = "{home}/ckpt"
remote = "s3://{bucket}/resend"
[volumes.options]
endpoint_url = "{endpoint}"
[volumes.policy]
settle = "300ms"
"""


def main() -> int:
    options = parse()
    home = Path(tempfile.mkdtemp(prefix="ckptd-bench-"))
    ram = Path(tempfile.mkdtemp(prefix="ckptd-bench-", dir="/dev/shm"))
    try:
        with server() as target, FaultProxy(urlsplit(target.endpoint).port or 0) as proxy:
            text = CONFIG.format(
                home=home, ram=ram, budget=2 * options.size, parallel=options.parallel, part_size=options.part_size,
                bucket=target.bucket, endpoint=proxy.endpoint,
            )  # fmt: skip
            (home / "config.toml").write_text(text)
            return report(options, proxy, interrupted(options, home, proxy))
    finally:
        shutil.rmtree(home)
        shutil.rmtree(ram)


def interrupted(options: argparse.Namespace, home: Path, proxy: FaultProxy) -> list[int]:
    """Uploads, killing the daemon now and then. Returns how many parts were on their way at each kill."""
    total = -(-options.size // options.part_size)
    daemon = start(home)
    try:
        write(home / "ckpt/run/checkpoint-1", options.size)
        underway = []
        for number in range(1, options.kills + 1):
            wait(lambda n=number: len(parts(proxy.finished)) >= n * total // (options.kills + 1), "parts to arrive")
            underway.append(kill(options.kill, daemon, home, proxy))
            if options.kill == "all":
                daemon = start(home)
        wait(lambda: status(home)["exposure"]["files"] == 0 and committed(home), "the commit")
        return underway
    finally:
        daemon.terminate()
        daemon.wait(60)


def kill(what: str, daemon: subprocess.Popen[bytes], home: Path, proxy: FaultProxy) -> int:
    worker = status(home)["pid"]
    for pid in [daemon.pid] * (what == "all") + [worker]:
        os.kill(pid, signal.SIGKILL)
    begun, ended = parts(proxy.seen), parts(proxy.finished)
    if what == "all":
        daemon.wait(10)
    return sum((begun - ended).values())


def report(options: argparse.Namespace, proxy: FaultProxy, underway: list[int]) -> int:
    counts = parts(proxy.seen)
    again = sum(count - 1 for count in counts.values())
    print(
        f"{options.size >> 20} MiB in {len(counts)} parts of {options.part_size >> 20} MiB, {options.parallel} at a time"
    )
    print(f"SIGKILL of {options.kill}, {len(underway)} times: {underway} parts were on their way")
    print(
        f"sent again: {again} parts (at most {sum(underway)}), {proxy.body_bytes / options.size:.2f} x the file's bytes"
    )
    return again > sum(underway)


def parts(requests: list[tuple[str, str]]) -> Counter[int]:
    queries = [parse_qs(urlsplit(path).query) for method, path in requests if method == "PUT"]
    return Counter(int(query["partNumber"][0]) for query in queries if "partNumber" in query)


def start(home: Path) -> subprocess.Popen[bytes]:
    reading, writing = os.pipe()
    with (home / "log").open("ab") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "ckptd", "--config", str(home / "config.toml"), "--ready-fd", str(writing)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writing], env=environment(),
        )  # fmt: skip
    os.close(writing)
    with open(reading, "rb") as ready:
        line = ready.readline()
    if not line or not json.loads(line).get("ok"):
        raise SystemExit(f"the daemon did not start: {line!r}")
    return daemon


def ask(home: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ckptctl", "--socket", f"{home}/s", *command, "--json"],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    return done.stdout


def status(home: Path) -> dict:
    return json.loads(ask(home, "status"))


def committed(home: Path) -> bool:
    return [found["state"] for found in json.loads(ask(home, "ls", "run"))] == ["committed"]


def wait(holds, what: str) -> None:
    end = time.monotonic() + LONGEST_S
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"waited {LONGEST_S:.0f} s for {what}")
        time.sleep(0.02)


def write(directory: Path, size: int) -> None:
    directory.mkdir(parents=True)
    block = os.urandom(8 * MIB)
    with (directory / "model.bin").open("wb") as file:
        for offset in range(0, size, len(block)):
            file.write(block[: min(len(block), size - offset)])
    (directory / "DONE").touch()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=size_of, default=size_of("2GiB"))
    parser.add_argument("--part-size", type=size_of, default=64 * MIB)
    parser.add_argument("--parallel", type=int, default=16)
    parser.add_argument("--kill", choices=["worker", "all"], default="worker")
    parser.add_argument("--kills", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
