"""Finds out which job writes a checkpoint, and how it was launched: from the environment of a process that has a file of it open.

Best effort: a daemon that may not read the process (another user's, without being root) or looks too late learns nothing, and
other evidence decides (docs/several-nodes.md).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from ckptd.domain.errors import CkptdError
from ckptd.domain.launch import Job, JobRun, Launch, job_of, launch_of
from ckptd.engine.context import Context
from ckptd.engine.volume import Volume
from ckptd.layouts import locate
from ckptd.layouts.location import TOP

log = structlog.get_logger()

_AGAIN_S = 1.0
"""All descriptors of all processes are looked through at most this often for one run."""
_ENVIRONMENT = 1 << 20
"""Bytes of an environment that are read."""


@dataclass(frozen=True, slots=True)
class Writer:
    """A process, told from a later one of the same number by when it was started."""

    pid: int
    started: str
    launch: Launch | None
    job: Job | None


class Launching:
    def __init__(self, context: Context, volume: Volume) -> None:
        self._context = context
        self._volume = volume
        self._writers: dict[str, Writer] = {}
        self._looking: set[str] = set()
        self._not_before: dict[str, float] = {}

    def opened(self, path: str) -> None:
        """A file of the volume was opened by its writer: once per run and writer it is looked for."""
        where = locate(path)
        if where.step is None or where.run in self._looking:
            return
        its = (self._volume.name, where.run, where.step)
        known = self._writers.get(where.run)
        alive = known is not None and started(known.pid) == known.started
        if known is not None and alive and (known.launch is None or self._context.launches.get(its) == known.launch):
            return
        if not alive and self._not_before.get(where.run, 0.0) > asyncio.get_running_loop().time():
            return
        self._looking.add(where.run)
        self._context.spawn(self._find(its, known if alive else None), f"launcher of {where.run}")

    async def _find(self, its: tuple[str, str, int], known: Writer | None) -> None:
        context, run = self._context, its[1]
        try:
            found = known or await asyncio.to_thread(self._writer, run)
            self._not_before[run] = asyncio.get_running_loop().time() + _AGAIN_S
            if found is None:
                return
            self._writers[run] = found
            if (launch := found.launch) is not None and context.launches.get(its) != launch:
                context.launches[its] = launch
                await context.catalog.nodes.launched(*its, launch)
                log.info("launch.found", run=run, step=its[2], nodes=launch.nodes, ranks=launch.ranks, by=launch.by)
                context.wake()
            if found.job is not None:
                await context.catalog.jobs.wrote(JobRun(its[0], run, found.job, context.clock()))
        except CkptdError as error:  # the catalog's disk is full: it is known until the next restart
            log.warning("launch.unrecorded", run=run, error=error.message)
        finally:
            self._looking.discard(run)

    def _writer(self, run: str) -> Writer | None:
        """By the path that its files have for it: on a mount, those below the root are open in the mount's server."""
        base = self._volume.root
        if self._volume.front.is_mount:
            above, name = os.path.split(self._volume.path)
            base = os.path.join(os.path.realpath(above), name)
        return find_writer(base if run == TOP else os.path.join(base, run))


def find_writer(directory: str) -> Writer | None:
    """A process that has a file below `directory` open for writing. Takes milliseconds to tenths of a second.

    The path alone does not tell: in another mount namespace, which any user can make, something else may have it.
    """
    prefix = os.path.join(directory, "")
    for pid in _processes():
        if pid == os.getpid() or not _writes_below(pid, prefix):
            continue
        begun = started(pid)
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables, uid = _variables(file.read(_ENVIRONMENT)), os.fstat(file.fileno()).st_uid
            with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
                cgroup = file.read()
        except OSError:
            continue
        if begun is not None:
            return Writer(pid, begun, launch_of(variables), job_of(variables, cgroup, uid))
    return None


def started(pid: int) -> str | None:
    """When the process was started, in clock ticks since boot (proc(5)); None: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return None


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _writes_below(pid: int, prefix: str) -> bool:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            path = os.readlink(f"/proc/{pid}/fd/{name}")
            if not path.startswith(prefix):
                continue
            with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as info:
                flags = next((line.split()[1] for line in info if line.startswith("flags:")), "0")
            if int(flags, 8) & os.O_ACCMODE == os.O_RDONLY:
                continue
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), os.stat(path)):
                return True
        except OSError:  # it was closed, or renamed meanwhile
            continue
    return False


def _variables(raw: bytes) -> dict[str, str]:
    pairs = (item.partition(b"=") for item in raw.split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if equals}
