"""The listening Unix socket. The supervisor owns it: callers queue in the kernel while a worker is restarted."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from dataclasses import dataclass
from typing import Self

from ckptd.domain.errors import AlreadyRunning, ConfigError, StateUnusable

# sun_path has 108 bytes and ends with a zero: unix(7).
LONGEST_PATH = 107
BACKLOG = 1024
"""Callers that may wait to be taken in; the kernel allows net.core.somaxconn, 4096 by default."""
PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Listener:
    socket: socket.socket
    path: str
    inode: int

    @classmethod
    def open(cls, path: str, *, mode: int, gid: int | None = None) -> Self:
        """Binds and listens; replaces the socket of a dead daemon. `gid`: the group that it is given (as root).

        Raises AlreadyRunning when somebody answers there, ConfigError for a path that cannot work, else StateUnusable.
        """
        if (length := len(os.fsencode(path))) > LONGEST_PATH:
            raise ConfigError(
                f"the socket's path is too long ({length} bytes, the kernel takes {LONGEST_PATH}): {path}",
                hint="choose a shorter one with --socket or CKPTD_SOCKET",
            )
        try:
            _prepare(os.path.dirname(path) or ".", others=bool(mode & 0o077))
            _clear(path)
            listening = _bound(path, mode, gid)
            return cls(listening, path, os.lstat(path).st_ino)
        except OSError as error:
            raise StateUnusable(
                f"the socket {path} cannot be made: {error.strerror or error}",
                hint="fix its directory, or choose another path with --socket or CKPTD_SOCKET",
            ) from error

    def close(self) -> None:
        """Removes the path only if it still is our socket: somebody may have put another there."""
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(self.path).st_ino == self.inode:
                os.unlink(self.path)


def _prepare(folder: str, *, others: bool) -> None:
    """`others`: users besides its own are to reach the socket. A directory that is there keeps its mode."""
    if not os.path.isdir(folder):
        os.makedirs(os.path.dirname(folder) or ".", exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, mode=0o711 if others else 0o700)
    found = os.stat(folder)
    if found.st_uid not in {0, os.geteuid()}:  # made by somebody else in /tmp, say: he could replace it
        raise StateUnusable(
            f"the socket's directory {folder} belongs to another user (uid {found.st_uid})",
            hint="choose a directory of your own with --socket or CKPTD_SOCKET",
        )
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        raise StateUnusable(
            f"others may write to the socket's directory {folder}, and replace the socket",
            hint=f"chmod go-w {folder}, or choose another directory with --socket or CKPTD_SOCKET",
        )


def _bound(path: str, mode: int, gid: int | None) -> socket.socket:
    """Bound under another name and renamed when it listens: nobody meets it with the wrong mode, or not listening."""
    hidden = path[:-1] + ("~" if path[-1] != "~" else "-")  # as long as the path itself, which the kernel takes
    with contextlib.suppress(FileNotFoundError):
        os.unlink(hidden)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listening.bind(hidden)
        if gid is not None and os.geteuid() == 0:
            os.chown(hidden, -1, gid, follow_symlinks=False)
        os.chmod(hidden, mode)
        listening.listen(BACKLOG)
        os.rename(hidden, path)
    except OSError:
        listening.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden)
        raise
    return listening


def _clear(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise StateUnusable(
            f"{path} exists and is not a socket", hint="move it away, or choose another path with --socket"
        )
    if _answers(path):
        raise AlreadyRunning(
            f"another daemon already serves the socket {path}",
            hint="stop it with `ckptctl down`, or give this one its own --socket",
        )
    os.unlink(path)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(PATIENCE_S)
        try:
            caller.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except TimeoutError:
            return True  # its queue is full: somebody holds it
    return True
