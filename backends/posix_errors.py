"""What the kernel says about a directory, as errors of `backends.errors`: one table, in `from_os_error`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .caller import WatchedSource
from .errors import BackendError, BucketMissing, CredentialsRefused, NoSpace, NotFound, Unavailable

_FULL = {errno.ENOSPC: "the file system is full", errno.EDQUOT: "the quota is used up"}
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_AWAY = frozenset({
    errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN,
    errno.ENOTCONN, errno.ESHUTDOWN, errno.ECONNRESET, errno.ECONNREFUSED, errno.EAGAIN, errno.EBUSY, errno.ENOMEM,
    errno.EMFILE, errno.ENFILE, errno.EREMOTEIO, errno.ENODEV, errno.EINTR,
})  # fmt: skip
"""A server or a mount that is not there just now, or this process out of something: worth asking again."""


def from_os_error(error: OSError, what: str, root: str) -> BackendError:
    """`what` names the object, for people."""
    number, reason = error.errno or 0, error.strerror or str(error)
    if number in _FULL:
        return NoSpace(f"{what}: {_FULL[number]}", hint=f"free some space under {root}, or raise the quota")
    if number in _REFUSED:
        return CredentialsRefused(
            f"{what}: {reason}", hint=f"user {os.geteuid()} must be able to read and write everything under {root}"
        )
    if number in _AWAY:
        return Unavailable(f"{what}: {reason}", hint=f"is the file system of {root} mounted and its server up?")
    if number == errno.ENOENT:
        return NotFound(f"{what}: no such object") if os.path.isdir(root) else root_missing(root)
    if number == errno.ENAMETOOLONG:
        return BackendError(f"{what}: the name is too long for the file system of {root}")
    if number in {errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST}:
        return BackendError(
            f"{what}: {reason}", hint="one object's name is another one's folder; a directory cannot hold both"
        )
    return BackendError(f"{what}: {reason}")


def root_missing(root: str) -> BucketMissing:
    return BucketMissing(f"{root}: no such directory", hint=f"mount its file system, or make it: mkdir -p '{root}'")


@contextmanager
def translated(what: str, root: str, source: WatchedSource | None = None) -> Iterator[None]:
    """OSErrors of the block come out as BackendErrors, but what `source` raised comes out as it is."""
    try:
        yield
    except OSError as error:
        if source is not None and source.failure is error:
            raise
        raise from_os_error(error, what, root) from error
