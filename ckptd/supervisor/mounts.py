"""What must outlive every crash below: /dev/fuse, the mount, and the state of the process that serves it.

A server that dies is started again at once and goes on where the old one was; who called meanwhile has only waited. The worker
finds each server at a socket of its own, which the supervisor keeps too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

from ckptd.domain.errors import ConfigError
from ckptd.fronts.mount import mounting
from ckptd.supervisor.log import Log
from ckptd.supervisor.process import ends_with
from ckptd.supervisor.restarts import Restarts
from ckptd.tiers.holders import holders

COMMAND = (sys.executable, "-I", "-m", "ckptd.fronts.mount")
BACKLOG = 8
_BUSY_S = 2.0
"""How long an unmount waits for the last user to leave."""
_END_S = 5.0


@dataclass(slots=True)
class Mount:
    """One mounted volume. Made by `open`, ended by `close`; between them `start` whenever no server runs."""

    volume: str
    path: str
    backing: str
    objects: str | None
    socket_path: str
    fuse_fd: int
    state_fd: int
    listening: socket.socket
    log: Log
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    born: float = 0.0
    due: float | None = None
    """When the next server is to be started; None while one runs."""
    restarts: Restarts = field(default_factory=Restarts)

    @classmethod
    def adopt(
        cls, volume: str, path: str, backing: str, objects: str | None, socket_path: str, log: Log, fds: tuple[int, int]
    ) -> Mount:
        """One that a supervisor before this one had made. `fds`: /dev/fuse and the state. Raises ConfigError."""
        return cls(volume, path, backing, objects, socket_path, *fds, _listen(socket_path), log)

    @classmethod
    def open(cls, volume: str, path: str, backing: str, objects: str | None, socket_path: str, log: Log) -> Mount:
        """Mounts; the directory is made if need be, a stale mount replaced. Raises ConfigError."""
        if mounting.is_stale(os.fsencode(path)):
            log.warning("mount.stale", path=path, reason="its daemon is gone; it is replaced")
            _unmount(path, lazily=True)
        listening = _listen(socket_path)
        fuse_fd = state_fd = -1
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)
            fuse_fd = mounting.open_device()
            state_fd = os.memfd_create(f"ckptd-mount-{volume}", os.MFD_CLOEXEC)
            mounting.mount(fuse_fd, os.fsencode(path), f"ckptd:{volume}".encode())
        except OSError as error:
            listening.close()
            for fd in (fuse_fd, state_fd):
                if fd >= 0:
                    os.close(fd)
            raise ConfigError(
                f"volume {volume}: {path} cannot be mounted: {error.strerror}",
                hint="name another path, or use --front watch",
            ) from error
        return cls(volume, path, backing, objects, socket_path, fuse_fd, state_fd, listening, log)

    def start(self) -> None:
        words = [*COMMAND, "--backing", self.backing, "--fuse-fd", str(self.fuse_fd), "--state-fd", str(self.state_fd)]
        words += ["--listen-fd", str(self.listening.fileno())]
        if self.objects is not None:
            words += ["--objects", self.objects]
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            pass_fds=(self.fuse_fd, self.state_fd, self.listening.fileno()),
            start_new_session=True,
            preexec_fn=ends_with(os.getpid()),  # noqa: PLW1509 - the supervisor has one thread
        )
        self.pidfd, self.born, self.due = os.pidfd_open(self.process.pid), time.monotonic(), None
        self.log.info("mount.served", volume=self.volume, pid=self.process.pid, restarts=self.restarts.total)

    def died(self) -> None:
        """Its server has ended: says why, and when the next one comes."""
        assert self.process is not None
        code = self.process.wait()
        os.close(self.pidfd)
        self.process, self.pidfd = None, -1
        self.restarts = self.restarts.died(time.monotonic() - self.born)
        # The first after a calm life at once: every call waits meanwhile.
        delay = 0.0 if self.restarts.in_row == 1 else self.restarts.delay_s
        self.due = time.monotonic() + delay
        self.log.error("mount.server_died", volume=self.volume, code=code, next_start_in_s=delay)

    def close(self) -> None:
        """Unmounts. Whoever still has something open there is named in the log, and loses it."""
        if not _unmount_soon(self.path):
            for holder in holders(self.path):
                self.log.warning("mount.busy", path=self.path, holder=str(holder))
            _unmount(self.path, lazily=True)
        os.close(self.fuse_fd)  # the server's copy is the last one: it goes when the server does
        if self.process is not None:
            self._end()
        os.close(self.state_fd)
        self.listening.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket_path)

    def _end(self) -> None:
        assert self.process is not None
        try:
            self.process.wait(_END_S / 10)  # it ends by itself when its mount is gone
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self.pidfd)
        self.process = None


@dataclass(slots=True)
class Mounts:
    """All of a daemon's, by volume. The supervisor's loop calls `attend` with the descriptors that are readable."""

    by_volume: dict[str, Mount] = field(default_factory=dict)

    @property
    def pidfds(self) -> list[int]:
        return [mount.pidfd for mount in self.by_volume.values() if mount.pidfd >= 0]

    def unservable(self, tries: int) -> str | None:
        """A volume whose server has died so many times, each soon after its start."""
        return next((name for name, mount in self.by_volume.items() if mount.restarts.in_row >= tries), None)

    def patience(self) -> float | None:
        """Seconds until a server is to be started again; None: all run."""
        due = [mount.due for mount in self.by_volume.values() if mount.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def attend(self, readable: frozenset[int]) -> None:
        for mount in self.by_volume.values():
            if mount.pidfd in readable:
                mount.died()
            if mount.due is not None and mount.due <= time.monotonic():
                mount.start()

    def close(self) -> None:
        for mount in self.by_volume.values():
            mount.close()
        self.by_volume.clear()


def _listen(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        listening.bind(path)
        os.chmod(path, 0o600)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"the socket {path} cannot be made: {error.strerror}", hint="choose a shorter --state-dir"
        ) from error
    return listening


def _unmount(path: str, *, lazily: bool = False) -> bool:
    try:
        mounting.unmount(os.fsencode(path), lazily=lazily)
    except OSError:
        return False
    return True


def _unmount_soon(path: str) -> bool:
    end = time.monotonic() + _BUSY_S
    while not _unmount(path):
        if not os.path.ismount(path):
            return True  # somebody else did
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
