"""The service manager (systemd): is told how the daemon fares, and keeps descriptors that must outlive the supervisor.

sd_notify(3) and sd_listen_fds(3), a datagram and three variables. With `FileDescriptorStoreMax=` in the unit the manager
holds every mount's /dev/fuse while no supervisor runs: callers wait for the next one instead of losing their mount.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Self

from ckptd.supervisor import pulse

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""
_VARIABLES = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_WATCHDOG = ("WATCHDOG_USEC", "WATCHDOG_PID")


@dataclass(slots=True)
class Manager:
    address: str = ""
    """Of its socket; "" where there is none."""
    kept: dict[str, int] = field(default_factory=dict)
    """Descriptors that it kept for us, by name."""
    silence_s: float = pulse.LIMIT_S
    """How long the worker may be silent. The manager's watchdog, where it has one, hears of every beat."""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self:
        """Takes its variables out of `environ`: they are not for our children."""
        address, pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
        kept: dict[str, int] = {}
        if pid == str(os.getpid()) and count.isdecimal():
            for fd, name in zip(range(FIRST_FD, FIRST_FD + int(count)), names.split(":"), strict=False):
                os.set_inheritable(fd, False)
                if name in kept:
                    os.close(kept[name])
                kept[name] = fd
        silence = pulse.limit_of({name: environ.pop(name, "") for name in _WATCHDOG}, os.getpid())
        return cls(address, kept, silence)

    @property
    def starts_us(self) -> bool:
        """Nobody is there to read why a start failed: the manager only repeats it."""
        return bool(self.address)

    def tell(self, *lines: str, fds: tuple[int, ...] = ()) -> None:
        """A manager that does not listen does not matter."""
        if not self.address:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.connect(address)
            socket.send_fds(sender, ["\n".join(lines).encode()], fds)

    def keep(self, name: str, fd: int) -> None:
        """Until `drop`, or until the service is stopped. `name`: without colons."""
        self.tell("FDSTORE=1", f"FDNAME={name}", fds=(fd,))

    def drop(self, name: str) -> None:
        self.tell("FDSTOREREMOVE=1", f"FDNAME={name}")

    def take(self, name: str) -> int:
        """A descriptor that was kept; -1 if there is none."""
        return self.kept.pop(name, -1)

    def close(self) -> None:
        """What nobody took: of volumes that are not served any more."""
        for name, fd in self.kept.items():
            os.close(fd)
            self.drop(name)
        self.kept.clear()
