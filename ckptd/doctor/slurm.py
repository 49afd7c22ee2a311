"""What a Slurm that is set up on this machine does to checkpoints. Says nothing where there is no slurm.conf."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ckptd.doctor.finding import Finding, ok, skipped, warning

CONFIGURATION = "etc/slurm/slurm.conf"
DEFAULTS = "etc/default/ckptd"
BUDGET_S = 45
"""Of the scripts in packaging/slurm, where `/etc/default/ckptd` sets no other."""
BEYOND_S = 6
"""After their budget, until they kill what hangs."""
_LONGEST_LINE = 1 << 16
_NO_LIMIT_S = 65534
"""slurm.conf(5), PrologEpilogTimeout: none by default."""


def checks(root: Path, environ: Mapping[str, str], fronts: Mapping[str, str]) -> Iterator[Finding]:
    """`fronts`: of each volume by name: mount, watch, or auto where that is not decided yet."""
    named = environ.get("SLURM_CONF", "")
    path = Path(named) if named else root / CONFIGURATION
    if not named and not path.exists():
        return
    try:
        settings = read(path)
    except OSError as error:
        yield skipped("slurm", f"{path} cannot be read: {error.strerror}")
        return
    yield _scripts(path, settings)
    yield _flags(settings)
    yield _time(settings, root)
    yield _container(settings, fronts)
    yield _memory(path, settings, fronts)
    yield _tracking(settings)


def read(path: Path, depth: int = 4) -> dict[str, str]:
    """The settings of a file, by name in small letters; of those that are given several times (Prolog=) all, in lines.

    `Include` is followed; node and partition lines, and what comes after a line's first setting, are not looked at.
    """
    found: dict[str, str] = {}
    text = re.sub(r"\\\n", "", path.read_text(encoding="utf-8", errors="replace"))
    for line in text.splitlines():
        plain = line[:_LONGEST_LINE].partition("#")[0].strip()
        if (include := re.match(r"include\s+(\S+)", plain, re.IGNORECASE)) and depth:
            for key, value in read(path.parent / include[1], depth - 1).items():
                found[key] = f"{found[key]}\n{value}" if key in found else value
            continue
        key, equals, value = plain.partition("=")
        key = key.strip().lower()
        if equals and key not in ("nodename", "partitionname"):
            value = value.strip().strip('"')
            found[key] = f"{found[key]}\n{value}" if key in found else value
    return found


def _scripts(path: Path, settings: Mapping[str, str]) -> Finding:
    check = "slurm scripts"
    missing = [kind for kind in ("Prolog", "Epilog") if not _calls_us(path, settings.get(kind.lower(), ""))]
    if missing:
        return warning(
            check,
            f"{' and '.join(missing)} of {path} do not call ckptctl: jobs start cold, and end without a flush",
            f"install packaging/slurm and set {' and '.join(f'{kind}=/etc/slurm/{kind.lower()}.d/*' for kind in missing)}",
        )
    if not settings.get("taskprolog"):
        return warning(
            check,
            "Prolog and Epilog call ckptctl; without a TaskProlog jobs are not told CKPTD_RUN and CKPTD_LATEST",
            "TaskProlog=/etc/slurm/task_prolog.sh",
        )
    return ok(check, "Prolog and Epilog call ckptctl, and there is a TaskProlog")


def _calls_us(path: Path, value: str) -> bool:
    """By what the scripts say: they may have been renamed, or be called from a site's own."""
    for pattern in value.splitlines():
        where = Path(pattern) if pattern.startswith("/") else path.parent / pattern
        for script in sorted(where.parent.glob(where.name)) if where.name else ():
            try:
                if "ckpt" in script.read_text(encoding="utf-8", errors="replace"):
                    return True
            except OSError:
                continue
    return False


def _flags(settings: Mapping[str, str]) -> Finding:
    check, flags = "slurm prolog flags", settings.get("prologflags", "")
    if not _has(flags, "alloc", "contain", "x11"):  # the last two imply the first
        return warning(
            check,
            "PrologFlags has no Alloc: on a node the Prolog runs only when the job's first step comes to it",
            "PrologFlags=Alloc",
        )
    return ok(check, f"PrologFlags={flags}")


def _time(settings: Mapping[str, str], root: Path) -> Finding:
    check, text = "slurm time limits", settings.get("prologepilogtimeout", str(_NO_LIMIT_S))
    limit = int(text) if text.isascii() and text.isdigit() else _NO_LIMIT_S
    budgets = {kind: _budget(root, kind) for kind in ("PROLOG", "EPILOG")}
    slow = {kind: budget for kind, budget in budgets.items() if limit < budget + BEYOND_S}
    if slow:
        said = ", ".join(f"CKPTD_{kind}_BUDGET={budget}" for kind, budget in slow.items())
        return warning(
            check,
            f"PrologEpilogTimeout={limit} kills a Prolog or Epilog before its own limit ({said}, and {BEYOND_S} s), and "
            "drains the node",
            f"PrologEpilogTimeout={max(slow.values()) + BEYOND_S}, or smaller budgets in /{DEFAULTS}",
        )
    return ok(check, f"PrologEpilogTimeout={'none' if limit == _NO_LIMIT_S else limit}")


def _budget(root: Path, kind: str) -> int:
    try:
        text = (root / DEFAULTS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return BUDGET_S
    set_to = re.findall(rf"^\s*CKPTD_{kind}_BUDGET=['\"]?([0-9]{{1,6}})", text, re.MULTILINE)
    return int(set_to[-1]) if set_to else BUDGET_S


def _container(settings: Mapping[str, str], fronts: Mapping[str, str]) -> Finding:
    check = "slurm job_container"
    if settings.get("jobcontainertype", "") != "job_container/tmpfs":
        return ok(check, "jobs see this machine's /dev/shm and /tmp")
    watched = [name for name, front in fronts.items() if front != "mount"]
    if not watched:
        return ok(check, "job_container/tmpfs, and all volumes are mounts: jobs see them")
    return warning(
        check,
        f"job_container/tmpfs gives each job its own /dev/shm and /tmp, deleted when it ends: what a job writes to the watched "
        f"volume {', '.join(watched)} is not seen by the daemon, and is lost",
        'mount the volume (front = "mount", as root on Linux 6.9 or newer), or put tiers.ram.path on a tmpfs outside of '
        "/dev/shm and /tmp",
    )


def _memory(path: Path, settings: Mapping[str, str], fronts: Mapping[str, str]) -> Finding:
    check = "slurm memory limits"
    if not _has(settings.get("taskplugin", ""), "task/cgroup"):
        return ok(check, "TaskPlugin has no task/cgroup: jobs have no memory limit of Slurm's")
    try:
        cgroup = read(path.with_name("cgroup.conf"))
    except OSError:
        cgroup = {}
    if cgroup.get("constrainramspace", "no").lower() not in ("yes", "true", "1"):
        return ok(check, "ConstrainRAMSpace is not set: jobs are not limited to the memory that they asked for")
    watched = [name for name, front in fronts.items() if front != "mount"]
    if not watched:
        return ok(check, "ConstrainRAMSpace, and all volumes are mounts: what is saved there is the daemon's memory")
    return warning(
        check,
        f"ConstrainRAMSpace: what a job saves to the watched volume {', '.join(watched)} counts as its own memory, "
        "and a job that saves more than it asked for is killed",
        'mount the volume (front = "mount"), or have jobs ask for the memory of their checkpoints too (--mem)',
    )


def _tracking(settings: Mapping[str, str]) -> Finding:
    check, kind = "slurm process tracking", settings.get("proctracktype", "proctrack/cgroup")
    if kind == "proctrack/cgroup":
        return ok(check, "the job of a process is known from its control group")
    return warning(
        check,
        f"ProctrackType={kind}: which job writes a checkpoint is known only from its environment, which the job can change",
        "ProctrackType=proctrack/cgroup",
    )


def _has(value: str, *words: str) -> bool:
    return any(word.strip() in words for word in re.split(r"[,\n]", value.lower()))
