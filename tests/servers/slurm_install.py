"""Installs Debian's Slurm for the tests: `make slurm`. Does nothing where it is already."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers.debian_packages import install, missing

PROGRAMS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}

if __name__ == "__main__":
    install(missing(PROGRAMS), "Slurm", "slurm")
