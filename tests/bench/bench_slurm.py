"""What the Prolog and the Epilog add to a job whose checkpoint is hot and durable, on one node.

    python tests/bench/bench_slurm.py [--rounds 20] [--size-mib 64]

Starts packaging/slurm/prolog.d/50-ckptd and epilog.d/50-ckptd as slurmd does (as root, without PATH and HOME) beside a real
daemon with a directory as remote, and prints the medians. An interpreter that does nothing, and `ckptctl --version`, are
measured by turns with them: below that nothing can be.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CKPTCTL = Path(sys.executable).with_name("ckptctl")


def timed(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return took


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--size-mib", type=int, default=64)
    asked = arguments.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ckptd-bench-"))
    ram = Path(tempfile.mkdtemp(prefix="ckptd-bench-", dir="/dev/shm"))
    ctl = [str(CKPTCTL), "--socket", str(home / "s")]
    started = dict(os.environ) | {"CKPTD_TIERS_RAM_PATH": str(ram / "tier")}
    (home / "defaults").write_text(
        f"CKPTCTL={CKPTCTL}\nCKPTD_SOCKET={home}/s\nCKPTD_SLURM_RECORDS={home}/records\nCKPTD_STRICT=1\n"
    )
    environment = {
        "SLURM_JOB_ID": "1", "SLURM_JOB_UID": str(os.getuid()), "SLURM_JOB_GID": str(os.getgid()), "SLURM_JOB_NUM_NODES": "1",
        "SLURMD_NODENAME": "n1", "SLURM_NODELIST": "n1", "SLURM_JOB_COMMENT": "ckpt=run-42", "SLURM_JOB_STDERR": "/dev/null",
        "CKPTD_DEFAULTS": str(home / "defaults"),
    }  # fmt: skip
    commands = {
        "python -I -c pass": [sys.executable, "-I", "-c", "pass"],
        "ckptctl --version": [str(CKPTCTL), "--version"],
        "prolog": [str(ROOT / "packaging/slurm/prolog.d/50-ckptd")],
        "epilog": [str(ROOT / "packaging/slurm/epilog.d/50-ckptd")],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    try:
        up = [*ctl, "up", str(home / "ckpt"), "--front", "watch", "--remote", f"file://{home}/remote"]
        timed([*up, "--state-dir", str(home / "state")], started)
        checkpoint = home / "ckpt/run-42/checkpoint-1"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.bin").write_bytes(os.urandom(asked.size_mib << 20))
        (checkpoint / "trainer_state.json").write_text("{}")
        timed([*ctl, "flush"], started)
        for number in range(asked.rounds + 1):
            for name, command in commands.items():
                took = timed(command, environment)
                if number:  # the first one reads the programs from the disk
                    times[name].append(took)
    finally:
        subprocess.run([*ctl, "down", "--no-flush"], check=False, capture_output=True)
        for directory in (home, ram):
            shutil.rmtree(directory, ignore_errors=True)
    print(f"medians of {asked.rounds} (fastest, slowest), a hot checkpoint of {asked.size_mib} MiB:")
    for name, found in times.items():
        print(f"{name:20} {statistics.median(found) * 1e3:4.0f} ms ({min(found) * 1e3:.0f}, {max(found) * 1e3:.0f})")


if __name__ == "__main__":
    main()
