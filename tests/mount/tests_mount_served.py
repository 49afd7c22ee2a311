"""A mount of its own for a test: a tmpfs as backing tree, a holder (this process) and a server process that may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

from ckptd.fronts.mount import mounting, system


class Tmpfs:
    def __init__(self, at: Path, options: str = "huge=within_size,size=6g,mode=777") -> None:
        self.at = at
        at.mkdir(parents=True, exist_ok=True)
        try:
            system.mount(b"ckptd-test", os.fsencode(at), b"tmpfs", 0, options.encode())
        except OSError:  # a kernel without transparent huge pages
            system.mount(b"ckptd-test", os.fsencode(at), b"tmpfs", 0, b"size=6g,mode=777")

    def close(self) -> None:
        system.umount2(os.fsencode(self.at), mounting.MNT_DETACH)


class Served:
    """Use as a context: whatever happens, the server ends and nothing stays mounted."""

    def __init__(self, home: Path, *arguments: str, backing: Path | None = None) -> None:
        self.home, self.arguments = home, arguments
        self.path = home / "mnt"
        self._own = Tmpfs(home / "tier") if backing is None else None
        self.backing = home / "tier" / "volume" if backing is None else backing
        self.backing.mkdir(exist_ok=True)
        self.backing.chmod(0o777)
        self.path.mkdir()
        self.server: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None
        self.fuse_fd = self.state_fd = -1
        self._expected = False
        self.program: list[str] | None = None
        """Serves in place of the real one, with the same arguments."""

    def __enter__(self) -> Self:
        try:
            self.fuse_fd = mounting.open_device()
            self.state_fd = os.memfd_create("ckptd-mount-state", os.MFD_CLOEXEC)
            mounting.mount(self.fuse_fd, os.fsencode(self.path))
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        if self.control is not None:
            self.control.close()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(20)
        with theirs:
            fds = (self.fuse_fd, self.state_fd, theirs.fileno())
            self.server = subprocess.Popen(
                [
                    *(self.program or [sys.executable, "-I", "-m", "ckptd.fronts.mount"]), "--backing", str(self.backing),
                    "--fuse-fd", str(fds[0]), "--state-fd", str(fds[1]), "--control-fd", str(fds[2]), *self.arguments,
                ],
                pass_fds=fds,
            )  # fmt: skip
        self._expected = False
        threading.Thread(target=self._watch, args=(self.server,), daemon=True).start()

    def _watch(self, server: subprocess.Popen[bytes]) -> None:
        """This process holds the mount and uses it: without a server it would wait for itself for ever."""
        server.wait()
        if server is self.server and not self._expected:
            abort(self.path)

    def kill(self) -> None:
        assert self.server is not None
        self._expected = True
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()

    def ask(self, op: str, **more: Any) -> dict[str, Any]:
        assert self.control is not None
        self.control.send(json.dumps({"op": op, **more}).encode())
        answer: dict[str, Any] = json.loads(self.control.recv(1 << 16))
        return answer

    def __exit__(self, *_: object) -> None:
        self._expected = True
        abort(self.path)
        with contextlib.suppress(OSError):
            mounting.unmount(os.fsencode(self.path), lazily=True)
        self._expected = True
        # The last copy of the descriptor takes the connection with it: whoever still waits gets an error instead of a hang.
        if self.fuse_fd >= 0:
            os.close(self.fuse_fd)
        if self.server is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(5)
            self.kill()
        if self.control is not None:
            self.control.close()
        if self.state_fd >= 0:
            os.close(self.state_fd)
        if self._own is not None:
            self._own.close()


def abort(mount: Path) -> None:
    """Ends the connection: all who wait get an error."""
    with contextlib.suppress(OSError):  # EBUSY: it is still mounted, and aborted
        system.umount2(os.fsencode(mount), 1)  # MNT_FORCE


def wait_for(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.01)
