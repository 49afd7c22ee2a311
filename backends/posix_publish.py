"""How a finished file gets its name, and how names go away again: the steps that must hold against other writers."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from .errors import PreconditionFailed
from .folders import new_upload_id
from .posix_copy import make_directories, sync_directory
from .posix_paths import etag_of

_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS})
_LEFT_OVER_S = 86400.0
"""Age from which a `put-…` temporary file belongs to nobody any more."""


def publish(root: str, staged: str, path: str, key: str, *, if_absent: bool, if_match: str | None) -> None:
    folder = os.path.dirname(path)
    for last in (False, False, False, True):
        make_directories(folder, root)
        try:
            if if_match is not None:
                _require_match(path, key, if_match)
            if if_absent:
                _link(staged, path, key)
            else:
                os.replace(staged, path)
            break
        except FileNotFoundError:
            # A delete may have removed the emptied folder just now; then it is made again.
            if last or not os.path.lexists(staged):
                raise
    sync_directory(folder)


def sync_emptied(folder: str, root: str) -> None:
    """Removes folders that hold nothing any more, up to the root, and syncs the first that stays."""
    while folder != root:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.EACCES, errno.EPERM}:
                raise
            break
        folder = os.path.dirname(folder)
    with suppress(FileNotFoundError):
        sync_directory(folder)


def prove_and_sweep(staging: str) -> None:
    """Proves that files can be made and deleted; removes what crashed writers left, by the server's clock."""
    mine = f"{staging}/put-{new_upload_id()}"
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.write(descriptor, b"probe")
        os.fsync(descriptor)
        now = os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        os.unlink(mine)
    with os.scandir(staging) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.name.startswith("put-") and now - entry.stat().st_mtime > _LEFT_OVER_S:
                    os.unlink(entry.path)


def _require_match(path: str, key: str, etag: str) -> None:
    try:
        current = etag_of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        current = None
    if current != etag:
        raise PreconditionFailed(f"{key}: somebody else wrote it first")


def _link(staged: str, path: str, key: str) -> None:
    try:
        os.link(staged, path)
    except FileExistsError:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        # On NFS an answer may be lost and the call repeated: then the name that "exists already" is ours.
        if os.stat(staged).st_nlink == 1:
            raise PreconditionFailed(f"{key}: there is one already") from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise PreconditionFailed(f"{key}: there is one already") from None
        os.replace(staged, path)
