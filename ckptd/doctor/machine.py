"""Checks of the machine itself. Everything is read below `root`, "/" but in tests."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path

from ckptd.doctor.finding import Finding, failed, ok, readable, skipped, warning

MIB, GIB = 1 << 20, 1 << 30
OLDEST_KERNEL = (5, 4)
"""pidfd_open(2) came with 5.3; 5.4 is the first long-term kernel after it."""
WATCHES = 65536
DESCRIPTORS = 4096


def kernel(release: str | None = None) -> Finding:
    release = release or os.uname().release
    found = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if sys.platform != "linux" or found < OLDEST_KERNEL:
        return failed("kernel", f"{sys.platform} {release}", "ckptd needs Linux 5.4 or newer")
    return ok("kernel", f"Linux {release}")


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return ok("python", f"{version} at {sys.executable}")  # an older one could not run this


def inotify(root: Path) -> Finding:
    folder = root / "proc/sys/fs/inotify"
    try:
        watches, instances, queue = (
            int((folder / name).read_text(encoding="ascii"))
            for name in ("max_user_watches", "max_user_instances", "max_queued_events")
        )
    except OSError as error:
        return failed("inotify", f"no inotify here: {error.strerror}", "the watch front needs a kernel with inotify")
    detail = f"{watches} watches (one a directory), {instances} instances, {queue} queued events"
    if watches < WATCHES:
        return warning("inotify", detail, f"sysctl fs.inotify.max_user_watches={8 * WATCHES}")
    if instances < 16:
        return warning("inotify", detail, "sysctl fs.inotify.max_user_instances=128")
    return ok("inotify", detail)


def descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = f"{_count(soft)} open files allowed (hard limit {_count(hard)})"
    if soft != resource.RLIM_INFINITY and soft < 256:
        return failed("open files", detail, f"ulimit -n {DESCRIPTORS}, or LimitNOFILE= in the unit")
    if soft != resource.RLIM_INFINITY and soft < 1024:
        return warning("open files", detail, f"ulimit -n {DESCRIPTORS}, or LimitNOFILE= in the unit")
    return ok("open files", detail)


def memory(root: Path, ram_budget: int) -> Finding:
    """The RAM tier against what the machine has free now; more than that means pressure, and shrinking, later."""
    values = _meminfo(root)
    if not values:
        return skipped("memory", "/proc/meminfo cannot be read")
    total, available = values.get("MemTotal", 0), values.get("MemAvailable", 0)
    detail = f"{readable(total)}, {readable(available)} available; RAM tier may use {readable(ram_budget)}"
    if ram_budget > total * 0.9:
        return failed("memory", detail, "lower tiers.ram.budget: the jobs need memory too")
    if ram_budget > available:
        return warning(
            "memory", detail, "lower tiers.ram.budget, or the tier shrinks under pressure just when it is needed"
        )
    return ok("memory", detail)


def swap(root: Path) -> Finding:
    total = _meminfo(root).get("SwapTotal", 0)
    if total:
        return warning(
            "swap",
            f"{readable(total)} of swap: the kernel may put the RAM tier's pages there, as slow as its disk",
            "swapoff -a on training nodes, or sysctl vm.swappiness=1",
        )
    return ok("swap", "none: what is in the RAM tier is in memory")


def pressure(root: Path) -> Finding:
    path = root / "proc/pressure/memory"
    try:
        line = path.read_text(encoding="ascii").splitlines()[0]
    except (OSError, IndexError):
        return warning(
            "memory pressure",
            "/proc/pressure/memory cannot be read: the RAM tier cannot shrink before the kernel kills something",
            "boot with psi=1, on a kernel with CONFIG_PSI",
        )
    return ok("memory pressure", f"PSI is read: {line}")


def cgroup(root: Path, ram_budget: int) -> Finding:
    """The tightest memory limit above this process. A daemon that is started by a job's own shell shares the job's."""
    limit = _cgroup_limit(root)
    if limit is None:
        return ok("memory cgroup", "no limit")
    detail = f"limit {readable(limit)}, RAM tier may use {readable(ram_budget)}"
    if limit < ram_budget:
        return warning(
            "memory cgroup",
            detail + "; on a watched directory each file is charged to the cgroup of the job that writes it",
            "lower tiers.ram.budget below the job's limit less what the job itself needs, or raise the limit",
        )
    return ok("memory cgroup", detail + "; files in a watched directory are charged to the cgroup that writes them")


def _meminfo(root: Path) -> dict[str, int]:
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return {}
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}


def _cgroup_limit(root: Path) -> int | None:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    own = next((line.partition("::")[2] for line in lines if line.startswith("0::")), None)
    if own is None:
        return None
    limits = []
    for folder in (Path(own), *Path(own).parents):
        try:
            text = (root / "sys/fs/cgroup" / str(folder).lstrip("/") / "memory.max").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            limits.append(int(text))
    return min(limits, default=None)


def _count(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
