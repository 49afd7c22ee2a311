"""A daemon with a mounted volume, and what must be gone after the test."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

from tests_node_daemon import Daemon

from ckptd.fronts.mount import mounting, system


def server_pid(daemon: Daemon) -> int:
    """Of the process that serves the mount: a child of the supervisor."""
    assert daemon.process is not None
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"ckptd.fronts.mount" in Path(f"/proc/{pid}/cmdline").read_bytes())


def is_mounted(path: Path) -> bool:
    return any(line.split()[1] == str(path) for line in Path("/proc/self/mounts").read_text().splitlines())


def clear_mounts(*paths: Path) -> None:
    """What a killed daemon leaves: the mount that nobody serves, and the tier's tmpfs."""
    for path in paths:
        with contextlib.suppress(OSError):
            while is_mounted(path):
                system.umount2(os.fsencode(path), mounting.MNT_DETACH)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_user(uid: int, *words: str, text: bool = True) -> Any:
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *words]
    return subprocess.run(command, capture_output=True, text=text, check=False)
