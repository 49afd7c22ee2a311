"""Speed and CPU of ckptd's transfers to OSS beside oss2's own resumable_upload and resumable_download.

    python tests/bench/bench_oss.py [--rounds 3] [--size 1GiB] [--threads 4] [--part-size 64MiB]

All go through the tests' gateway (`tests/servers/oss_gateway.py`), which shares the machine's cores, with the same number of
threads and the same parts. They take turns, round by round. oss2 is measured as it comes, with its CRC-64 (crcmod), and
`plain`, without: then it checks nothing. Ours checks CRC64NVME and CRC-64/XZ of every byte. What is printed are medians;
CPU is user plus system time of the moving, without the start of Python and its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

MIB = 1 << 20
TARGET = 0.9
"""Ratio of speeds at least."""
KEYS = {"OSS_ACCESS_KEY_ID": "ckptd-test", "OSS_ACCESS_KEY_SECRET": "ckptd-test-secret"}


def main() -> int:
    options = parse()
    from servers.oss_gateway import REGION
    from servers.oss_server import start_gateway

    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ckptd-bench-") as folder:
        source = Path(folder, "source")
        block = os.urandom(16 * MIB)
        with source.open("wb") as file:
            for start in range(0, options.size, len(block)):
                file.write(block[: min(len(block), options.size - start)])
        with start_gateway(Path(folder, "oss")) as gateway:
            endpoint = f"http://127.0.0.1:{gateway.stdout.readline().strip()}"
            try:
                measure(source, Path(folder, "target"), {"endpoint_url": endpoint, "region": REGION}, options)
            finally:
                gateway.stdin.close()
    return 0


def measure(source: Path, target: Path, remote: dict[str, str], options: argparse.Namespace) -> None:
    results: dict[tuple[str, str], list[dict]] = {}
    turns = {"ckptd": ours, "oss2": theirs, "oss2 plain": lambda *rest: theirs(*rest, crc=False)}
    for number in range(options.rounds):
        for who in list(turns)[:: 1 if number % 2 else -1]:
            for direction, said in turns[who](source, target, remote, options):
                results.setdefault((direction, who), []).append(said)
                speed = options.size / 1e6 / said["seconds"]
                print(
                    f"  {direction:4} {who:10} {speed:6.0f} MB/s  {said['moving_cpu']:5.2f} s CPU",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
    print(
        f"\n1 file of {options.size >> 20} MiB, {options.threads} threads, parts of {options.part_size >> 20} MiB, "
        f"{options.rounds} rounds, medians; load {os.getloadavg()[0]:.1f}"
    )
    for direction in ("up", "down"):
        for who in turns:
            seconds = median(results[direction, who], "seconds")
            cpu = median(results[direction, who], "moving_cpu")
            ratio = "" if who == "ckptd" else compared(results[direction, "ckptd"], results[direction, who])
            print(f"  {direction:4} {who:10} {options.size / 1e6 / seconds:5.0f} MB/s  {cpu:5.2f} s CPU{ratio}")


def compared(ours: list[dict], theirs: list[dict]) -> str:
    """Round by round, as whatever else the machine does changes from one to the next."""
    ratios = sorted(their["seconds"] / our["seconds"] for our, their in zip(ours, theirs, strict=True))
    middle = statistics.median(ratios)
    of_medians = median(theirs, "seconds") / median(ours, "seconds")
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    return f"   ckptd is {of_medians:.2f}x by medians, {middle:.2f}x by rounds ({spread}; target >= {TARGET})"


def median(said: list[dict], name: str) -> float:
    return statistics.median(each[name] for each in said)


def ours(source, target, remote, options):
    task = {
        "url": f"oss://ckptd-test/{uuid.uuid4().hex}", "options": remote, "direction": "up", "paths": [str(source)],
        "settings": {"movers": 1, "parallel": options.threads, "part_size": options.part_size},
    }  # fmt: skip
    up = run([sys.executable, str(HERE / "bench_client.py")], task)
    yield "up", up
    folder = target.with_name("down")
    folder.mkdir()
    task |= {"direction": "down", "sums": up["sums"], "paths": [str(folder / source.name)]}
    yield "down", run([sys.executable, str(HERE / "bench_client.py")], task)
    compare(source, folder / source.name)
    folder.rmdir()
    clean(task["url"], remote)


def theirs(source, target, remote, options, *, crc=True):
    prefix = uuid.uuid4().hex
    task = {
        "remote": remote, "source": str(source), "target": str(target), "key": f"{prefix}/source", "crc": crc,
        "threads": options.threads, "part_size": options.part_size,
    }  # fmt: skip
    for direction in ("up", "down"):
        yield direction, run([sys.executable, "-c", PLAIN], task | {"direction": direction})
    compare(source, target)
    clean(f"oss://ckptd-test/{prefix}", remote)


PLAIN = """
import json, resource, sys, tempfile, time
import oss2
task = json.loads(sys.stdin.read())
auth = oss2.make_auth("ckptd-test", "ckptd-test-secret", "v4")
bucket = oss2.Bucket(
    auth, task["remote"]["endpoint_url"], "ckptd-test", region=task["remote"]["region"], enable_crc=task["crc"],
    session=oss2.Session(pool_size=64),
)
bucket.object_exists("warm")
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
with tempfile.TemporaryDirectory() as notes:
    began, before = time.monotonic(), cpu()
    if task["direction"] == "up":
        oss2.resumable_upload(
            bucket, task["key"], task["source"], store=oss2.ResumableStore(root=notes), multipart_threshold=1,
            part_size=task["part_size"], num_threads=task["threads"],
        )
    else:
        oss2.resumable_download(
            bucket, task["key"], task["target"], store=oss2.ResumableDownloadStore(root=notes), multiget_threshold=1,
            part_size=task["part_size"], num_threads=task["threads"],
        )
    print(json.dumps({"seconds": time.monotonic() - began, "moving_cpu": cpu() - before}))
"""


def run(command: list[str], task: dict) -> dict:
    environment = {**os.environ, **KEYS, "PYTHONPATH": str(HERE.parent.parent)}
    done = subprocess.run(
        command, input=json.dumps(task), text=True, stdout=subprocess.PIPE, check=True, env=environment
    )  # fmt: skip
    return json.loads(done.stdout)


def compare(one: Path, other: Path) -> None:
    """The same bytes came back; the copy is removed."""
    with one.open("rb") as first, other.open("rb") as second:
        while block := first.read(16 * MIB):
            if block != second.read(16 * MIB):
                raise SystemExit("other bytes came back")
    other.unlink()


def clean(url: str, remote: dict[str, str]) -> None:
    from backends.oss import OssBackend

    os.environ.update(KEYS)
    store = OssBackend.from_url(url, remote)
    store.delete([found.key for found in store.list("")])
    store.close()


def parse() -> argparse.Namespace:
    from bench.bench_s3 import size_of

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=size_of, default=1024 * MIB)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--part-size", type=size_of, default=64 * MIB)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
