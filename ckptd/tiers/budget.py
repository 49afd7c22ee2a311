"""What a tier's budget is in bytes on this machine: percentages resolved, and nothing promised that is not there."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ckptd.domain.errors import ConfigError
from ckptd.domain.model import Place
from ckptd.settings.quantities import Percent, format_size, parse_budget

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes of what a budget is a share of."""

    total: int
    available: int
    """Free, plus what the tier itself occupies already."""
    what: str
    """For messages: `memory`, `the file system of /local/nvme`."""


def resolve_budget(budget: int | str | Percent, capacity: Capacity, *, key: str) -> int:
    """A percentage is cut to what is available; a number beyond the total is a ConfigError that names both.

    `key` is the setting's name, for the message.
    """
    try:
        wanted = parse_budget(budget)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
    if isinstance(wanted, Percent):
        return min(int(capacity.total * wanted.value / 100), capacity.available)
    if wanted > capacity.total:
        raise ConfigError(
            f"{key}: {format_size(wanted)} is more than {capacity.what} has: {_readable(capacity.total)}",
            hint=f'at most {capacity.total >> 20}MiB; a share such as "25%" fits every machine',
        )
    return wanted


def tier_capacity(place: Place, path: str, *, occupied: int = 0) -> Capacity:
    """`path` may not exist yet. `occupied`: what the tier holds already.

    RAM is a share of memory, bounded by its file system (a tmpfs has a size of its own); NVMe is a share of its disk.
    """
    total, free = filesystem_bytes(path)
    here = f"the file system of {path}"
    if place is not Place.RAM:
        return Capacity(total, min(total, free + occupied), here)
    memory = memory_bytes()
    if total < memory:
        return Capacity(total, min(total, free + occupied), here)
    return Capacity(memory, min(memory, free + occupied), "memory")


def tier_budget(place: Place, path: str, budget: int | str | Percent, *, occupied: int = 0) -> int:
    """Bytes. Raises ConfigError for a budget above what the machine has."""
    capacity = tier_capacity(place, path, occupied=occupied)
    wanted = parse_budget(budget)
    if place is Place.RAM and isinstance(wanted, Percent):
        # "25%" means of memory even where /dev/shm is smaller; what /dev/shm has is the bound.
        capacity = Capacity(memory_bytes(), min(capacity.available, memory_bytes()), "memory")
    return resolve_budget(wanted, capacity, key=f"tiers.{place}.budget")


def filesystem_bytes(path: str) -> tuple[int, int]:
    """Size and free bytes (as this user may use them) of the file system that holds, or would hold, `path`."""
    existing = os.path.abspath(path)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    stats = os.statvfs(existing)
    return stats.f_blocks * stats.f_frsize, stats.f_bavail * stats.f_frsize


def memory_bytes(root: str = "/") -> int:
    """What this process may count on: the machine's memory, or less if a control group above it says so.

    `root` stands before `/proc` and `/sys`, for tests.
    """
    with open(os.path.join(root, "proc/meminfo"), encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return min([int(fields["MemTotal"].split()[0]) * 1024, *_cgroup_limits(root)])


def _cgroup_limits(root: str) -> list[int]:
    """`memory.max` (v2) and `memory.limit_in_bytes` (v1) of our group and all above; [] where hidden (cgroups(7))."""
    try:
        with open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8", errors="surrogateescape") as file:
            entries = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []
    found: list[int] = []
    for entry in entries:
        if len(entry) != 3:
            continue
        _, controllers, group = entry
        if controllers == "":
            for mount in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
                found += _limits_upwards(os.path.join(root, mount), group, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits_upwards(os.path.join(root, "sys/fs/cgroup/memory"), group, "memory.limit_in_bytes")
    return found


def _limits_upwards(mount: str, group: str, name: str) -> list[int]:
    found: list[int] = []
    parts = [part for part in group.split("/") if part]
    for depth in range(len(parts), -1, -1):
        try:
            with open(os.path.join(mount, *parts[:depth], name), encoding="ascii") as file:
                text = file.read().strip()
        except OSError:
            continue  # the root group has no such file, and a container may not see its own path
        if text.isdigit():  # v2 writes "max" for no limit
            found.append(int(text))
    return found


def _readable(size: int) -> str:
    return f"{size / _GIB:.1f}GiB" if size >= _GIB else f"{size / (1 << 20):.1f}MiB"
