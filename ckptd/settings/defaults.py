"""Where things lie when nobody says otherwise. The embedded default needs no root, no server and no file."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from typing import Any

from ckptd import locations


def node_name() -> str:
    """The host name with what a node's name may not contain replaced."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:128] or "node"


def base(state: str, uid: int, environ: Mapping[str, str]) -> dict[str, Any]:
    """The lowest layer of the settings, for a given state directory. Volumes and field defaults come elsewhere."""
    return {
        "node": {"name": node_name(), "state_dir": state, "socket": locations.socket_path(state, uid, environ)},
        "tiers": {
            "ram": {"path": f"/dev/shm/ckptd-{uid}-{locations.digest(state)}", "budget": "25%"},  # noqa: S108  # 0700, unique
            "nvme": {"path": os.path.join(state, "nvme"), "budget": "10%"},
        },
        "transfer": {},
        "scrub": {},
        "access": {},
        "probe": {},
        "volumes": [],
    }


def volume(state: str, cwd: str) -> dict[str, Any]:
    """What is served when neither a file nor a flag names a volume."""
    return {"name": "ckpt", "path": os.path.join(cwd, "ckpt"), "remote": default_remote(state)}


def default_remote(state: str) -> str:
    return f"file://{state}/remote"
