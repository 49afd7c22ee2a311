"""Checks of the directories: state, tiers, /dev/shm, and what dead daemons left there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ckptd.doctor.finding import Finding, failed, ok, readable, skipped, warning
from ckptd.domain.errors import ConfigError
from ckptd.domain.model import Place
from ckptd.settings.models import Settings
from ckptd.tiers.filesystem import filesystem_of
from ckptd.tiers.lease import has_writer
from ckptd.tiers.place_check import check_apart

SMALL_SHM = 1 << 30
SHM = "/dev/shm"  # noqa: S108 - the tier's usual home, not a place for temporary files


def state_directory(settings: Settings) -> Finding:
    path = settings.node.state_dir
    if reason := _cannot_write(path):
        return failed("state directory", f"{path}: {reason}", "fix owner, mode or space, or choose another --state-dir")
    free = shutil.disk_usage(_existing(path)).free
    if free < 64 << 20:
        return warning("state directory", f"{path}: {readable(free)} free", "the catalog needs room: free some space")
    return ok("state directory", f"{path}: {readable(free)} free")


def tier(place: Place, path: str, budget: int, volumes: Mapping[str, str]) -> Finding:
    """`volumes`: name to path. Looks only, where the daemon's start also makes the directory."""
    check = f"tier {place}"
    try:
        for name, volume in volumes.items():
            check_apart(f"tiers.{place}.path", path, name, volume)
    except ConfigError as error:
        return failed(check, error.message, error.hint)
    if reason := _cannot_write(path):
        return failed(check, f"{path}: {reason}", f"fix it, or choose another path in [tiers.{place}]")
    system = filesystem_of(_existing(path))
    if system.network:
        return failed(
            check, f"{path} is on {system.name}", "a tier has to be local; a shared directory can be the remote"
        )
    disk = shutil.disk_usage(_existing(path))
    free = disk.free + used_below(path)
    detail = (
        f"{path} ({system.name}): budget {readable(budget)}, {readable(free)} of {readable(disk.total)} free for it"
    )
    if budget > free:
        return warning(check, detail, f"lower tiers.{place}.budget, or free space: others use this file system too")
    return ok(check, detail)


def leases(place: Place, path: str) -> Finding:
    """Leases tell for sure whether a job has a file open before it is moved; without them /proc is searched."""
    check = f"leases on tier {place}"
    folder = os.path.realpath(_existing(path))
    try:
        fd, probe = tempfile.mkstemp(dir=folder, prefix=".ckptd-doctor-")
    except OSError as error:
        return skipped(check, f"{folder}: {error.strerror}")
    try:
        seen = has_writer(probe)
        os.close(fd)
        unseen = has_writer(probe)
    finally:
        os.unlink(probe)
    if seen is True and unseen is False:
        return ok(check, "an open file is recognised")
    return warning(
        check,
        "this file system has no leases: whether a job has a file open is looked up in /proc, as far as it may be read",
        "put the tier on tmpfs, ext4 or xfs; or run the daemon as the user who trains, or as root",
    )


def shared_memory(root: Path) -> Finding:
    path = root / "dev/shm"
    if not path.is_dir():
        return failed(SHM, "it is not there", "mount -t tmpfs tmpfs /dev/shm, or set tiers.ram.path")
    total = shutil.disk_usage(path).total
    if total < SMALL_SHM:
        return warning(
            SHM,
            f"{readable(total)}: too small for checkpoints (a container's default is 64 MiB)",
            "docker run --shm-size=…, a memory-backed emptyDir at /dev/shm, or mount -o remount,size=… /dev/shm",
        )
    return ok(SHM, readable(total) + _private(root))


def leftovers(settings: Settings) -> list[Finding]:
    """What a daemon that was killed leaves behind, and whether one runs now."""
    return [daemon(settings.node.socket), _other_ram_tiers(settings)]


def daemon(path: str) -> Finding:
    if not os.path.lexists(path):
        return ok("daemon", f"none serves {path}")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as caller:
        caller.settimeout(2)
        try:
            caller.connect(path)
        except TimeoutError:
            return warning(
                "daemon", f"{path} is held, but nobody accepts", "see its log: ckptd.log in the state directory"
            )
        except OSError:
            return ok("daemon", f"none runs; {path} was left by a dead one, the next `ckptctl up` replaces it")
    return ok("daemon", f"one serves {path}")


def _other_ram_tiers(settings: Settings) -> Finding:
    own = settings.tiers["ram"].path
    pattern = re.compile(rf"ckptd-{os.getuid()}-[0-9a-f]{{8}}")
    with contextlib.suppress(FileNotFoundError):
        found = [entry.path for entry in os.scandir(SHM) if pattern.fullmatch(entry.name)]
        others = {path: used_below(path) for path in sorted(found) if path != own}
        if any(others.values()):
            listed = ", ".join(f"{path} ({readable(size)})" for path, size in others.items() if size)
            return warning(
                "other RAM tiers",
                f"of daemons with other state directories: {listed}",
                "if such a daemon is not to come back: `ckptctl up` and `down` with its --state-dir, then remove it",
            )
    return ok("other RAM tiers", "none hold memory")


def _private(root: Path) -> str:
    """Slurm's job_container/tmpfs and systemd's PrivateTmp give a process its own /dev/shm, gone with the job."""
    try:
        ours, first = (os.readlink(root / f"proc/{pid}/ns/mnt") for pid in ("self", "1"))
    except OSError:
        return ""
    return "" if ours == first else "; in a mount namespace of its own: a daemon outside does not see the same /dev/shm"


def _existing(path: str) -> str:
    """The path itself, or the nearest directory above it that is there."""
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _cannot_write(path: str) -> str:
    try:
        with tempfile.TemporaryFile(dir=_existing(path)) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def used_below(path: str) -> int:
    return sum(_size(file) for file in _files(path))


def _files(path: str) -> Iterator[str]:
    for folder, _, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0
