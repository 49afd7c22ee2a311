"""What tests do with a cluster whose nodes have daemons."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.slurm_cluster import SlurmCluster
from tests_node_daemon import MIB, Daemon, save

CKPTCTL = Path(sys.executable).with_name("ckptctl")

SAVE = """
save() { mkdir -p "$1"; head -c 1000000 /dev/urandom >"$1/model.bin.part"; mv "$1/model.bin.part" "$1/model.bin"; \
(printf '{"step"'; sleep 3; printf ': 1}') >"$1/trainer_state.json"; }
"""
"""`save DIRECTORY` in a job's script: a checkpoint, of which a file is open for as long as a large one would be."""


@dataclass
class Site:
    slurm: SlurmCluster
    daemons: dict[str, Daemon]
    base: Path

    def defaults(self, node: str, **values: object) -> None:
        """On top of what every node needs here; a later call replaces an earlier one."""
        home = self.daemons[node].home
        records = home / "records"
        needed = {"CKPTCTL": CKPTCTL, "CKPTD_SOCKET": home / "s", "CKPTD_SLURM_RECORDS": records}
        self.slurm.defaults(node, **(needed | values))

    def records(self, node: str) -> list[str]:
        folder = self.daemons[node].home / "records"
        return sorted(os.listdir(folder)) if folder.exists() else []

    def checkpoint(self, node: str, run: str, step: int, size: int = MIB, owner: int = 0, mode: int = 0o755) -> None:
        """One that is committed, of that user."""
        daemon = self.daemons[node]
        save(daemon.volume / run / f"checkpoint-{step}", {"model.bin": os.urandom(size), "trainer_state.json": b"{}"})
        for path in ((daemon.volume / run), *(daemon.volume / run).rglob("*")):
            os.chown(path, owner, owner)
            os.chmod(path, mode if path.is_dir() else mode & 0o666)
        daemon.committed(run, step)

    def cold(self, node: str, run: str, step: int) -> None:
        """Only in the remote from now on."""
        self.daemons[node].ctl("evict", f"{run}@{step}")

    def hot(self, node: str, run: str, step: int) -> bool:
        found = self.daemons[node].checkpoint(run, step)
        return found is not None and found["hot_bytes"] == found["bytes"] > 0

    def pinned(self, node: str, run: str, step: int) -> bool:
        found = self.daemons[node].checkpoint(run, step)
        return found is not None and bool(found["pinned"])

    def events(self, node: str, name: str) -> list[dict[str, Any]]:
        return [one for one in self.daemons[node].json("events", "--limit", "1000") if one["event"] == name]
