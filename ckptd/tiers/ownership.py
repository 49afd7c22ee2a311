"""Whose a directory is: its owner, mode and POSIX ACL, as they are now. Links are not followed."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from ckptd.domain.access import AclEntry, Owned, acl_from

_ACL = "system.posix_acl_access"


def owned(path: str) -> Owned | None:
    """None for what is not there, is no directory, or cannot be looked at."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    return Owned(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), _acl(path))


def _acl(path: str) -> tuple[AclEntry, ...]:
    with suppress(OSError):  # most have none, and some file systems know of none
        return acl_from(os.getxattr(path, _ACL, follow_symlinks=False))
    return ()
