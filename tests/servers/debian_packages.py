"""Installs Debian's packages for the tests, for the programs behind `make hdfs`, `make slurm` and `make packagers`.

Packages of servers start them when they are installed; nobody wants those on a machine that runs tests, so a policy
(invoke-rc.d's policy-rc.d) forbids it meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

_POLICY = Path("/usr/sbin/policy-rc.d")


def missing(programs: Mapping[str, str]) -> list[str]:
    """Of packages by program, those whose program is not there."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return sorted({package for program, package in programs.items() if not shutil.which(program, path=path)})


def install(packages: list[str], what: str, target: str) -> None:
    """Exits with what to do where they cannot be installed. `what` is for `make target`."""
    if not packages:
        return
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        why = "there is no apt-get here" if apt is None else "only root can install them"
        sys.exit(
            f"{what} for the tests needs Debian's packages {' '.join(packages)}, and {why}.\n"
            f"Install them (apt-get install {' '.join(packages)}) and run `make {target}` again; "
            f"without it the tests that need {what} are skipped."
        )
    command = (apt, "-q", "-y", "-o", "DPkg::Lock::Timeout=120")
    print(f"installing Debian's {' '.join(packages)}", flush=True)
    with _nothing_started():
        # The lists of a fresh machine are empty, those of an old one name packages that are gone.
        for arguments in (["update"], ["install", "--no-install-recommends", *packages]):
            run = subprocess.run(
                [*command, *arguments], env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if run.returncode:
                sys.exit(f"apt-get {' '.join(arguments)} failed:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")


@contextlib.contextmanager
def _nothing_started() -> Iterator[None]:
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
