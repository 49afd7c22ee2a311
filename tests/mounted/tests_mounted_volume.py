"""A daemon with a mounted volume, and what must be gone after the test."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from tests_node_daemon import Daemon


def server_pid(daemon: Daemon) -> int:
    """Of the process that serves the mount: a child of the supervisor."""
    assert daemon.process is not None
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"ckptd.fronts.mount" in Path(f"/proc/{pid}/cmdline").read_bytes())


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_user(uid: int, *words: str, text: bool = True) -> Any:
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *words]
    return subprocess.run(command, capture_output=True, text=text, check=False)
