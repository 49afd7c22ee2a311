"""The log of a detached daemon is kept from growing without bound. Journals and terminals see to that themselves."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys

NAME = "ckptd.log"
"""In the state directory: `ckptctl up` makes it the daemon's standard error."""
LIMIT = 16 << 20


def bound(path: str, *, limit: int = LIMIT) -> None:
    """Where standard error is this file and larger than `limit`, what it holds becomes `<path>.1`, and it begins anew.

    It is emptied, not renamed: all processes of the daemon append to it by descriptors that they have inherited. A line that is
    written between the last look at it and then is lost. Where the disk has no room for the old one, that is.
    """
    with contextlib.suppress(OSError):
        found = os.fstat(sys.stderr.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size <= limit or not os.path.samestat(found, os.stat(path)):
            return
        with contextlib.suppress(OSError):
            shutil.copyfile(path, f"{path}.1~")
            os.chmod(f"{path}.1~", stat.S_IMODE(found.st_mode))
            os.rename(f"{path}.1~", f"{path}.1")
        os.truncate(path, 0)
