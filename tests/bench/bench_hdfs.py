"""Speed and CPU of ckptd's transfers to HDFS beside hdfs-native and pyhdfs alone, one stream each, as their users write it.

    python tests/bench/bench_hdfs.py [--rounds 3] [--size 1GiB] [--threads 4] [--part-size 64MiB] [--huge]

NameNode and DataNode (`make hdfs`) share the machine's cores. All take turns, round by round; `ckptd http` goes by WebHDFS
alone. Ours takes CRC-64/NVME and HDFS's own checksum of every byte and has both compared; theirs check what the protocol
checks. CPU is user plus system time of the client. Files lie on /dev/shm, as those of a watched
volume do; with `--huge`, as root, on a tmpfs with huge pages, as those of a mounted one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from bench.bench_oss import MIB, compare, compared, median, run  # noqa: E402
from bench.mount_peers import tmpfs  # noqa: E402


def main() -> int:
    options = parse()
    from servers.hdfs_own import running

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ckptd-bench-"))
        if options.huge:
            folder = stack.enter_context(tmpfs(Path(folder, "tier"), f"huge=within_size,size={4 * options.size}"))
        cluster = stack.enter_context(running())
        source = Path(folder, "source")
        block = os.urandom(16 * MIB)
        with source.open("wb") as file:
            for start in range(0, options.size, len(block)):
                file.write(block[: min(len(block), options.size - start)])
        measure(source, Path(folder), cluster, options)
    return 0


def measure(source, folder, cluster, options):
    results: dict[tuple[str, str], list[dict]] = {}
    turns = {
        "ckptd": lambda: ours(source, folder, cluster, options, "native"),
        "ckptd http": lambda: ours(source, folder, cluster, options, "webhdfs"),
        "hdfs-native": lambda: theirs(source, folder, cluster, NATIVE),
        "pyhdfs": lambda: theirs(source, folder, cluster, PYHDFS),
    }
    for number in range(options.rounds):
        for who in list(turns)[:: 1 if number % 2 else -1]:
            for direction, said in turns[who]():
                results.setdefault((direction, who), []).append(said)
                speed = options.size / 1e6 / said["seconds"]
                print(
                    f"  {direction:4} {who:12} {speed:6.0f} MB/s  {said['moving_cpu']:5.2f} s CPU",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
    print(
        f"\n1 file of {options.size >> 20} MiB, {options.threads} threads, parts of {options.part_size >> 20} MiB, "
        f"{options.rounds} rounds, medians; load {os.getloadavg()[0]:.1f}"
    )
    for direction in ("up", "down"):
        for who in turns:
            seconds, cpu = (median(results[direction, who], name) for name in ("seconds", "moving_cpu"))
            ratio = "" if who == "ckptd" else compared(results[direction, "ckptd"], results[direction, who])
            print(f"  {direction:4} {who:12} {options.size / 1e6 / seconds:5.0f} MB/s  {cpu:5.2f} s CPU{ratio}")


def ours(source, folder, cluster, options, way):
    with cluster.fresh_remote() as remote:
        task = {
            "url": remote.url, "options": {**remote.options, "data": way}, "direction": "up", "paths": [str(source)],
            "settings": {"movers": 1, "parallel": options.threads, "part_size": options.part_size},
        }  # fmt: skip
        up = run([sys.executable, str(HERE / "bench_client.py")], task)
        yield "up", up
        down = folder / "down"
        down.mkdir()
        task |= {"direction": "down", "sums": up["sums"], "paths": [str(down / source.name)]}
        yield "down", run([sys.executable, str(HERE / "bench_client.py")], task)
        compare(source, down / source.name)
        down.rmdir()
        remote.cluster.webhdfs("DELETE", remote.path, "DELETE", recursive="true").raise_for_status()


def theirs(source, folder, cluster, program):
    with cluster.fresh_remote() as remote:
        target = folder / "target"
        task = {
            "http": remote.cluster.namenode_http, "rpc": remote.cluster.namenode_rpc, "user": remote.options["user"],
            "path": f"{remote.path}/source", "source": str(source), "target": str(target),
        }  # fmt: skip
        for direction in ("up", "down"):
            yield direction, run([sys.executable, "-c", PREFACE + program], task | {"direction": direction})
        compare(source, target)
        remote.cluster.webhdfs("DELETE", remote.path, "DELETE", recursive="true").raise_for_status()


PREFACE = """
import json, os, resource, shutil, sys, time
task = json.loads(sys.stdin.read())
os.environ["HADOOP_USER_NAME"] = task["user"]
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
def told(began, before):
    print(json.dumps({"seconds": time.monotonic() - began, "moving_cpu": cpu() - before}))
"""
NATIVE = """
import hdfs_native
client = hdfs_native.Client(f"hdfs://127.0.0.1:{task['rpc']}")
client.get_file_info("/")
began, before = time.monotonic(), cpu()
if task["direction"] == "up":
    with open(task["source"], "rb") as source, client.create(task["path"]) as target:
        while block := source.read(8 << 20):
            target.write(block)
else:
    reader = client.read(task["path"])
    with open(task["target"], "wb") as target:
        for block in reader.read_range_stream(0, len(reader)):
            target.write(block)
told(began, before)
"""
PYHDFS = """
import pyhdfs
client = pyhdfs.HdfsClient(f"127.0.0.1:{task['http']}", user_name=task["user"])
client.get_file_status("/")
began, before = time.monotonic(), cpu()
if task["direction"] == "up":
    with open(task["source"], "rb") as source:
        client.create(task["path"], source)
else:
    client.copy_to_local(task["path"], task["target"])
told(began, before)
"""


def parse() -> argparse.Namespace:
    from bench.bench_s3 import size_of

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--huge", action="store_true", help="on a tmpfs with huge pages, as root")
    parser.add_argument("--size", type=size_of, default=1024 * MIB)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--part-size", type=size_of, default=64 * MIB)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
