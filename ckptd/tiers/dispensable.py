"""A mark in the RAM tier: nothing in it is the only copy of anything, so its memory may be given back.

The worker leaves it at an orderly end; the supervisor looks for it when it has none any more, and takes it away at the start.
"""

from __future__ import annotations

import contextlib
import os

NAME = ".ckptd-dispensable"


def mark(tier: str) -> None:
    os.close(os.open(_path(tier), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def unmark(tier: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(tier))


def is_marked(tier: str) -> bool:
    return os.path.exists(_path(tier))


def _path(tier: str) -> str:
    return os.path.join(tier, NAME)
