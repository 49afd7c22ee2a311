"""The demo's table: medians, and what each figure means."""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Notes = list[dict[str, Any]]


@dataclass(frozen=True)
class Figures:
    ckptd: Notes
    straight: Notes
    synced: Notes
    committed_at: dict[int, float]
    """Step → when its manifest was in the remote, seconds since the epoch."""
    prefetch_s: float
    cold_s: float


def cold_read_seconds(folder: Path) -> float:
    """Reads a checkpoint after dropping it from the page cache: what a node that never saw it would have to do."""
    os.sync()
    for path in folder.iterdir():
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    begun = time.perf_counter()
    for path in folder.iterdir():
        path.read_bytes()
    return time.perf_counter() - begun


def show_table(figures: Figures) -> None:
    saves = [note for note in figures.ckptd if note["event"] == "saved"]
    durable = [
        figures.committed_at[note["step"]] - note["at"] for note in saves if note["step"] in figures.committed_at
    ]
    console = Console() if sys.stdout.isatty() else Console(width=100)
    table = Table(title=f"{saves[0]['bytes'] / 1e6:.0f} MB a checkpoint, medians", title_style="bold")
    table.add_column("")
    for name in ("through ckptd", "straight to the disk", "straight, with fsync"):
        table.add_column(name, justify="right")
    columns = (figures.ckptd, figures.straight, figures.synced)
    table.add_row("save: the job waits", *(_median(notes, "seconds") for notes in columns))
    table.add_row("read back at once", *(_median(notes, "read_seconds") for notes in columns))
    table.add_row("durable and verified", f"{_time(statistics.median(durable))} later", "some time, unknown", "at once")
    table.add_row("on a second node", f"{_time(figures.prefetch_s)} (prefetch)", f"{_time(figures.cold_s)} (cold read)")
    console.print()
    console.print(table)
    console.print(
        "The remote here is a directory on this machine's disk: 'straight' is as fast as that disk and its cache.\n"
        "With S3, NFS or HDFS the last two columns become the network's; save and read of the first do not change.",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )


def _median(notes: Notes, key: str) -> str:
    return _time(statistics.median(note[key] for note in notes if note["event"] == "saved"))


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
