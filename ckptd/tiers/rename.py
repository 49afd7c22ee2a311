"""renameat2(2), which the standard library does not have: rename without replacing, and exchange of two names."""

from __future__ import annotations

import ctypes
import os
from enum import IntFlag

AT_FDCWD = -100  # fcntl.h
_libc = ctypes.CDLL(None, use_errno=True)


class How(IntFlag):
    """linux/fs.h."""

    NOREPLACE = 1  # EEXIST if the new name is taken
    EXCHANGE = 2  # both names must exist


def rename(source: str, target: str, how: How, *, source_dir: int = AT_FDCWD, target_dir: int = AT_FDCWD) -> None:
    """Raises OSError; EINVAL where the file system cannot do it (NFS)."""
    if _libc.renameat2(source_dir, os.fsencode(source), target_dir, os.fsencode(target), how) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source, None, target)
