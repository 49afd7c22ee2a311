"""Work that is done with the rights of the job's user, although Prolog and Epilog are root.

In a child that gives root up for good: the kernel then decides, with groups and ACLs, and a link that the user planted leads
to nothing that he could not reach himself.
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
import time
from collections.abc import Callable, Sequence
from itertools import islice

from ckptd.domain.errors import NotAllowed

_PATIENCE_S = 5.0
"""A file system that hangs must not hold the job."""
_LOOK_S = 0.002
_LOOKED_AT = 1000
"""Of the files of a checkpoint; they are one user's."""


def may_read(
    paths: Sequence[str], uid: int, gid: int | None = None, also: Callable[[], bool] = lambda: True, *,
    patience_s: float = _PATIENCE_S,
) -> bool:  # fmt: skip
    """Whether the user may read these files, and these directories with what lies right in them; what is not there is nobody's
    secret. `also` is asked as that user, too.
    """
    return as_user(uid, gid, lambda: all(_readable(path, within=True) for path in paths) and also(), patience_s)


def append(path: str, line: str, uid: int, gid: int | None = None) -> bool:
    """One line to a file that is there; whether it was written. Never through a link, and never to what is no plain file."""
    return as_user(uid, gid, lambda: _append(path, line))


def as_user(uid: int, gid: int | None, work: Callable[[], bool], patience_s: float = _PATIENCE_S) -> bool:
    """What `work` returns; False where it fails or does not come back in time.

    Raises NotAllowed where we are neither root nor that user.
    """
    if os.geteuid() not in (0, uid):
        raise NotAllowed(f"only root can act as user {uid}", hint="slurmd runs Prolog and Epilog as SlurmdUser: root")
    child = os.fork()
    if child == 0:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if os.geteuid() == 0:
                _become(uid, gid)
            os._exit(0 if work() else 1)
        except BaseException:  # noqa: BLE001 - a child must never go on with its parent's work
            os._exit(2)
    try:
        return _wait(child, time.monotonic() + patience_s) == 0
    except BaseException:
        _kill(child)
        raise


def _become(uid: int, gid: int | None) -> None:
    try:
        account = pwd.getpwuid(uid)
        groups, own = os.getgrouplist(account.pw_name, account.pw_gid), account.pw_gid
    except KeyError:  # a user that only the controller's directory knows
        groups, own = [], 65534 if gid is None else gid
    gid = own if gid is None else gid
    os.setgroups(sorted({gid, *groups}))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _wait(child: int, deadline: float) -> int:
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            _kill(child)
            return -1
        time.sleep(_LOOK_S)


def _kill(child: int) -> None:
    """Not waited for: it may hang in the kernel, and init reaps it."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, os.WNOHANG)


def _readable(path: str, *, within: bool) -> bool:
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return True
    if not is_directory:
        return os.access(path, os.R_OK)
    if not os.access(path, os.R_OK | os.X_OK):
        return False
    with os.scandir(path) as entries:
        return not within or all(_readable(one.path, within=False) for one in islice(entries, _LOOKED_AT))


def _append(path: str, line: str) -> bool:
    # Non-blocking: a pipe without a reader is refused instead of waited for.
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return False
    data = line.encode(errors="surrogateescape")
    return os.write(file, data) == len(data)
