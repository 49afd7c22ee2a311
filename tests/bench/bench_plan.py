"""What a run of 2,000 checkpoints of 64 files costs the daemon: time an event, start, private memory of the worker.

    python tests/bench/bench_plan.py [--steps 2000] [--files 64] [--events 60] [--kind cold|hot|both]

cold: all are committed and only in the remote, but for the newest. hot: all are committed and still in a tier, a row a file.
An event is a file that was closed: observed, recorded, looked at, planned, its upload begun; then again when the upload is done.
It is taken through the engine's own Observer, Reconciler and Catalog in this process, with real movers and a file:// remote.
Starts are those of a real daemon: the first on an empty catalog beside the full remote (hot: with the rows, without the
manifests), the next with all in the catalog. The files are sparse; no byte of them is read. Exit code 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench_memory import private

sys.path.insert(0, str(Path(__file__).parent.parent / "node"))

from tests_node_daemon import Daemon

from ckptd.catalog import Catalog, CopyRow
from ckptd.catalog.files import NewContent
from ckptd.domain.changes import Settled
from ckptd.domain.model import Attributes, Checksums, Place
from ckptd.engine.context import Context
from ckptd.engine.engine import Engine
from ckptd.engine.known import KnownManifests
from ckptd.engine.observer import Observer
from ckptd.engine.volume import Tier, Volume
from ckptd.manifest import Manifest, ManifestEntry, ManifestStore
from ckptd.manifest.format import FORMAT_KEY, manifest_key
from ckptd.policy.policy import Policy
from ckptd.transfer.transfers import Remote, Transfers

MIB = 1 << 20
SIZE = 4096
NEWEST = 3
"""Checkpoints of a cold run that are hot all the same."""
LIMITS = {"event ms": 50.0, "start s": 5.0, "memory MiB": 300.0}
BEGIN = 1_700_000_000


def main() -> int:
    options = parse()
    kinds = ("cold", "hot") if options.kind == "both" else (options.kind,)
    missed = [name for kind in kinds for name in measured(kind, options)]
    print("all limits met" if not missed else f"MISSED: {', '.join(missed)}")
    return bool(missed)


def measured(kind: str, options: argparse.Namespace) -> list[str]:
    home = Path(tempfile.mkdtemp(prefix="ckptd-bench-"))
    ram = Path(tempfile.mkdtemp(prefix="ckptd-bench-", dir="/dev/shm"))
    daemon = Daemon(
        home / "n", ram / "tier", remote=f"file://{home}/remote", volume=ram / "tier/volumes/ckpt",
        ram_budget="8GiB", policy="keep_hot = 10000\nkeep_nvme = 10000", node="bench",
        transfer='[scrub]\nevery = "0"',  # the files are sparse: their bytes are not what their rows say
    )  # fmt: skip
    try:
        asyncio.run(build(daemon, kind, options.steps, options.files))
        figures: dict[str, float] = {}
        for which in ("first", "next"):
            begun = time.monotonic()
            daemon.start()
            figures[f"{which} start s"] = time.monotonic() - begun
            begun = time.monotonic()
            assert len(daemon.get("/v1/runs/run/checkpoints")) == options.steps
            figures[f"ls, {which} daemon, seconds"] = time.monotonic() - begun
            time.sleep(3)
            figures[f"memory after {which} start MiB"] = private(daemon.worker_pid()) / MIB
            if options.hold:
                print(f"worker {daemon.worker_pid()}")
                time.sleep(options.hold)
            daemon.end()
        taken, used = asyncio.run(events(daemon, options))
        figures["event ms, median"] = statistics.median(taken)
        figures["event ms, 95 of 100"] = sorted(taken)[len(taken) * 95 // 100]
        figures["CPU an event, milliseconds, median"] = statistics.median(used)
    finally:
        daemon.end()
        shutil.rmtree(home)
        shutil.rmtree(ram)
    missed = []
    for name, value in figures.items():
        limit = next(
            (limit for end, limit in LIMITS.items() if set(end.split()) <= set(name.replace(",", "").split())), None
        )
        said = "" if limit is None else f"   limit {limit:g}: {'met' if value <= limit else 'MISSED'}"
        print(f"{kind:4} {options.steps} x {options.files}  {name:32} {value:8.2f}{said}")
        if limit is not None and value > limit:
            missed.append(f"{kind}: {name}")
    return missed


async def build(daemon: Daemon, kind: str, steps: int, files: int) -> None:
    """Manifests in the remote, and (as rows) what is in the tier."""
    volume = daemon.volume
    volume.mkdir(parents=True)
    (daemon.home / "state").mkdir()
    catalog = await Catalog.open(daemon.home / "state/catalog.db")
    (daemon.remote / ".ckptd").mkdir(parents=True)
    (daemon.remote / FORMAT_KEY).write_text('{"version": 1}')
    for step in range(1, steps + 1):
        manifest = described(step, files)
        target = daemon.remote / manifest_key("run", step, "bench")
        target.parent.mkdir(parents=True)
        target.write_text(manifest.to_json())
        if kind == "hot" or step > steps - NEWEST:
            await put(catalog, volume, manifest)
    await catalog.close()


def described(step: int, files: int) -> Manifest:
    entries = []
    for number in range(files):
        crc = (step << 40 | number << 20 | 0xABCDE) * 0x9E3779B97F4A7C15 % (1 << 64)
        attributes = Attributes(0o644, os.getuid(), os.getgid(), (BEGIN + step * 60) * 10**9 + number)
        sums = Checksums(SIZE, 64 * MIB, (crc,), crc)
        key = f"run/checkpoint-{step}/model-{number:05}-of-{files - 1:05}.safetensors"
        if number == files - 1:
            key = f"run/checkpoint-{step}/trainer_state.json"
        entries.append(ManifestEntry(key, attributes, sums, None, f"{crc:016x}-{step}"))
    return Manifest(
        "run", step, "bench", 1, "hf-trainer", "ckptd bench", f"run/checkpoint-{step}", BEGIN + step * 60.0,
        BEGIN + step * 60.0 + 5, tuple(entries),
    )  # fmt: skip


async def put(catalog: Catalog, volume: Path, manifest: Manifest) -> None:
    (volume / f"run/checkpoint-{manifest.step}").mkdir(parents=True)
    new = []
    for entry in manifest.entries:
        path = volume / entry.path
        path.touch()
        os.truncate(path, SIZE)
        os.utime(path, ns=(entry.attributes.mtime_ns, entry.attributes.mtime_ns))
        found = path.stat()
        copy = CopyRow(Place.RAM, 0, str(path), found.st_ino, found.st_mtime_ns)
        new.append(
            NewContent(
                entry.path, "run", manifest.step, None, True, SIZE, entry.attributes, manifest.written_at, None, copy
            )
        )
    async with catalog.transaction():
        await catalog.files.settle("ckpt", new)
        rows = await catalog.files.at_paths("ckpt", [entry.path for entry in manifest.entries])
        for entry in manifest.entries:
            row = rows[entry.path]
            assert entry.checksums is not None
            await catalog.files.set_checksums(row.id, 1, entry.checksums)
            await catalog.files.put_copy(row.id, CopyRow(Place.REMOTE, 1, entry.key, etag=entry.etag))


async def events(daemon: Daemon, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Milliseconds by the clock, and of this process's CPU: each is one file closed, or one upload done."""
    taken: list[float] = []
    used: list[float] = []
    catalog = await Catalog.open(daemon.home / "state/catalog.db")
    async with Transfers(parallel=4, part_size=64 * MIB, bandwidth=0, movers=1, journal=catalog.journal) as transfers:
        remote = Remote("ckpt", daemon.remote_url, ())
        root = os.path.realpath(daemon.volume)
        objects = str(daemon.home / "nvme/volumes/ckpt/objects")
        policy = Policy(keep_hot=10000, keep_nvme=10000)
        volume = Volume("ckpt", root, root, Place.RAM, objects, remote, policy, ManifestStore(transfers, remote))
        tiers = {
            Place.RAM: Tier(Place.RAM, str(daemon.ram), 8 << 30),
            Place.NVME: Tier(Place.NVME, str(daemon.home / "nvme"), 8 << 30),
        }
        known = KnownManifests(catalog)
        context = Context("bench", "ckptd bench", catalog, transfers, known, {"ckpt": volume}, tiers, time.time)
        await known.load()
        engine = Engine(context, ahead=1 << 30)
        observer = Observer(context, volume)
        async with asyncio.TaskGroup() as group:
            context.group = group
            await engine.reconciler.reconcile()
            gc.freeze()  # as the daemon does when it is ready
            for number in range(options.events):
                path = f"run/checkpoint-{options.steps + 1 + number // 8}/model-{number % 8:05}.safetensors"
                (volume_path := Path(root, path)).parent.mkdir(exist_ok=True)
                volume_path.write_bytes(os.urandom(SIZE))
                begun, before = time.perf_counter(), time.process_time()
                await observer.handle([Settled(path)])
                await engine.reconciler.reconcile()
                taken.append((time.perf_counter() - begun) * 1000)
                used.append((time.process_time() - before) * 1000)
                while work := [run.task for run in context.files.values()] + list(context.busy_units.values()):
                    await asyncio.wait(work)
                    await asyncio.sleep(0)
                    begun, before = time.perf_counter(), time.process_time()
                    await engine.reconciler.reconcile()
                    taken.append((time.perf_counter() - begun) * 1000)
                    used.append((time.process_time() - before) * 1000)
    await catalog.close()
    return taken, used


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--files", type=int, default=64)
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument("--kind", choices=["cold", "hot", "both"], default="both")
    parser.add_argument("--hold", type=float, default=0, help="seconds to leave each daemon running, for a profiler")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
