"""Where the daemon's socket, state directory and log are, found without loading the settings models.

The same answer as `ckptd.settings.load` gives, from the same defaults, in a tenth of the time: `latest` sits in
scripts. A file that does not parse is not complained about here; `ckptctl config check` and `up` do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ckptd import locations


def socket_path(environ: Mapping[str, str]) -> str:
    """`CKPTD_SOCKET`, else `node.socket` of the config file, else what belongs to the state directory; where that is not there
    and none was named, root's.
    """
    named = environ.get("CKPTD_SOCKET") or environ.get("CKPTD_NODE_SOCKET")
    if named:
        return os.path.abspath(os.path.expanduser(named))
    node, folder = _node_table(environ)
    if node.get("socket"):
        return os.path.join(folder, os.path.expanduser(node["socket"]))
    state = state_dir(environ)
    own = locations.socket_path(state, os.getuid(), environ)
    if state == locations.state_dir(os.getuid()) and not os.path.exists(own) and os.path.exists(locations.ROOT_SOCKET):
        return locations.ROOT_SOCKET
    return own


def state_dir(environ: Mapping[str, str]) -> str:
    named = environ.get("CKPTD_STATE_DIR") or environ.get("CKPTD_NODE_STATE_DIR")
    if named:
        return os.path.abspath(os.path.expanduser(named))
    node, folder = _node_table(environ)
    if node.get("state_dir"):
        return os.path.join(folder, os.path.expanduser(node["state_dir"]))
    return locations.state_dir(os.getuid())


def log_path(state: str) -> str:
    return os.path.join(state, "ckptd.log")


def _node_table(environ: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The texts of `[node]`, and the directory its relative paths start from."""
    path = environ.get("CKPTD_CONFIG") or locations.config_path(os.getuid())
    path = os.path.abspath(os.path.expanduser(path))
    if not os.path.exists(path):
        return {}, ""
    import tomllib  # noqa: PLC0415 - only where there is a file

    try:
        with open(path, "rb") as file:
            table: Any = tomllib.load(file).get("node", {})
    except (OSError, ValueError):
        return {}, ""
    texts = {key: value for key, value in table.items() if isinstance(value, str)} if isinstance(table, dict) else {}
    return texts, os.path.dirname(path)
