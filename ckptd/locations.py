"""Where config file, state directory and socket lie when nobody says otherwise. Stands below the settings and imports
next to nothing: `ckptctl latest` asks it in a few milliseconds, the settings models take a tenth of a second to build.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

ROOT_STATE_DIR = "/var/lib/ckptd"
ROOT_SOCKET = "/run/ckptd/ckptd.sock"
LONGEST_DERIVED_SOCKET = 100
"""Bytes; leaves room below the kernel's 107 for a temporary name beside it."""


def config_path(uid: int) -> str:
    """The file that is read when none is named; it need not exist."""
    if uid == 0:
        return "/etc/ckptd/config.toml"
    import platformdirs  # noqa: PLC0415 - not for a caller who names the socket

    return os.path.join(platformdirs.user_config_dir("ckptd"), "config.toml")


def state_dir(uid: int) -> str:
    if uid == 0:
        return ROOT_STATE_DIR
    import platformdirs  # noqa: PLC0415 - as above

    return platformdirs.user_state_dir("ckptd")


def socket_path(state: str, uid: int, environ: Mapping[str, str]) -> str:
    """Beside the catalog, unless that is longer than a socket's path may be; then a short path that only it maps to."""
    if uid == 0 and state == ROOT_STATE_DIR:
        return ROOT_SOCKET
    beside = os.path.join(state, "ckptd.sock")
    if len(os.fsencode(beside)) <= LONGEST_DERIVED_SOCKET:
        return beside
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    folder = os.path.join(runtime, "ckptd") if runtime.startswith("/") and len(os.fsencode(runtime)) < 64 else ""
    return os.path.join(folder or f"/tmp/ckptd-{uid}", f"{digest(state)}.sock")  # noqa: S108  # the folder is 0700


def digest(state: str) -> str:
    """Eight digits that tell the state directories of a machine apart."""
    return hashlib.sha1(os.fsencode(state), usedforsecurity=False).hexdigest()[:8]
