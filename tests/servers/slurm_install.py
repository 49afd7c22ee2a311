"""Installs Debian's Slurm for the tests: `make slurm`. Does nothing where it is already.

Debian's packages start their daemons when they are installed; nobody wants a cluster on a machine that runs tests, so a policy
(invoke-rc.d's policy-rc.d) forbids it meanwhile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
_POLICY = Path("/usr/sbin/policy-rc.d")


def missing() -> list[str]:
    """Packages whose programs are not there."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return sorted({package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)})


def main() -> None:
    packages = missing()
    if not packages:
        return
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        why = "there is no apt-get here" if apt is None else "only root can install them"
        sys.exit(
            f"Slurm for the tests needs Debian's packages {' '.join(packages)}, and {why}.\n"
            f"Install them (apt-get install {' '.join(packages)}) and run `make slurm` again; "
            "without it the tests that need Slurm are skipped."
        )
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        _install(apt, packages)
    finally:
        if ours:
            _POLICY.unlink()


def _install(apt: str, packages: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = [apt, "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
    print(f"installing Debian's {' '.join(packages)}", flush=True)
    for arguments in (["update"], ["install", "--no-install-recommends", *packages]):
        run = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            sys.exit(f"apt-get {' '.join(arguments)} failed:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")


if __name__ == "__main__":
    main()
