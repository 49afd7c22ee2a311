"""One daemon a state directory: an flock on `<state_dir>/lock`.

The lock belongs to the open file description, so it can be shared: the supervisor hands the descriptor to its worker,
and the directory stays taken as long as either of them lives. The file's content, the supervisor's pid, only serves the
message; it is believed only while somebody holds the lock, so a stale one does no harm. The file itself is never
removed: a removed lock file could be locked by two daemons at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from typing import Self

from ckptd.domain.errors import AlreadyRunning, StateUnusable

NAME = "lock"


@dataclass(frozen=True, slots=True)
class StateLock:
    """A state directory that is ours until `release` (and until the last process that inherited `fd` is gone)."""

    path: str
    fd: int

    @classmethod
    def acquire(cls, state_dir: str) -> Self:
        """Makes the directory if need be. Raises StateUnusable, or AlreadyRunning that names the holder's pid."""
        path = os.path.join(state_dir, NAME)
        try:
            os.makedirs(state_dir, mode=0o700, exist_ok=True)
            if os.geteuid() == 0:  # others' jobs reach its socket, and what was demoted beside it; nobody lists it
                os.chmod(state_dir, 0o711)  # noqa: S103
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(state_dir, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _pid_in(fd)
            os.close(fd)
            raise _taken(state_dir, holder) from None
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(fd)
            raise _unusable(state_dir, error) from error
        return cls(path, fd)

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, 0)
        os.close(self.fd)


def _pid_in(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdigit() else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _taken(state_dir: str, holder: int | None) -> AlreadyRunning:
    if holder is None:
        return AlreadyRunning(
            f"another daemon is just starting or stopping with the state directory {state_dir}",
            hint="try again in a moment",
        )
    if not _alive(holder):
        return AlreadyRunning(
            f"the worker of a daemon that was killed (pid {holder}) has not ended yet; it holds {state_dir}",
            hint="it ends by itself; try again in a moment",
        )
    return AlreadyRunning(
        f"a daemon with pid {holder} already runs with the state directory {state_dir}",
        hint="stop it with `ckptctl down`, or give this one its own --state-dir",
    )


def _unusable(state_dir: str, error: OSError) -> StateUnusable:
    return StateUnusable(
        f"the state directory {state_dir} cannot be used: {error.strerror or error}",
        hint="free some space, fix its owner and mode, or choose another with --state-dir or CKPTD_STATE_DIR",
    )
