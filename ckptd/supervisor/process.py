"""The worker as a child process: how it is started, what it says, how it ended."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ckptd.domain.errors import BY_CODE, CkptdError

COMMAND = (sys.executable, "-I", "-m", "ckptd.worker")
"""Isolated: neither PYTHONPATH nor the caller's directory decides which code runs with the daemon's rights."""
VARIABLE = "CKPTD_WORKER"
START_ERRORS = 64
"""A worker that cannot start exits with this plus the exit code of its CkptdError."""

_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended; `code` as in `Popen.returncode` (negative: the signal)."""

    code: int

    @property
    def start_error(self) -> int | None:
        """The CkptdError's exit code, if that is what ended it."""
        return self.code - START_ERRORS if START_ERRORS < self.code <= START_ERRORS + 8 else None

    def __str__(self) -> str:
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            name = signal.Signals(-self.code).name
        except ValueError:
            name = f"signal {-self.code}"
        hint = " (the kernel's out-of-memory killer sends this too: see dmesg)" if self.code == -signal.SIGKILL else ""
        return f"killed by {name}{hint}"


@dataclass(slots=True)
class Worker:
    """A running worker. On its pipe it says in one line that it serves, or why not; every other line is empty: a beat."""

    process: subprocess.Popen[bytes]
    pidfd: int
    pipe: int
    """Its reading end; -1 once the worker has closed the other."""
    said: bytes = b""

    @classmethod
    def start(cls, command: Sequence[str], document: dict[str, Any], *, keep: Sequence[int]) -> Worker:
        """`document` becomes CKPTD_WORKER, completed by `pipe_fd`; `keep` are the descriptors it inherits."""
        pipe, pipe_in_worker = os.pipe2(os.O_CLOEXEC)
        environment = dict(os.environ)
        environment[VARIABLE] = json.dumps({**document, "pipe_fd": pipe_in_worker})
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(*keep, pipe_in_worker),
                # A session of its own: Ctrl-C in a terminal reaches only the supervisor, which forwards it once.
                start_new_session=True,
                preexec_fn=ends_with(os.getpid()),  # noqa: PLW1509 - the supervisor has one thread
            )
        except BaseException:
            os.close(pipe)
            raise
        finally:
            os.close(pipe_in_worker)
        return cls(process, os.pidfd_open(process.pid), pipe)

    def hear(self) -> dict[str, Any] | None:
        """Reads what it says; its message once that is whole, None for beats."""
        chunk = os.read(self.pipe, 65536)
        if not chunk:
            os.close(self.pipe)
            self.pipe = -1
        *lines, self.said = (self.said + chunk).split(b"\n")
        if not chunk:
            lines.append(self.said)
        return next((_message(line) for line in lines if line), None)

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it and its movers, which are in its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def bury(self) -> Exit:
        """Once it has ended: collects it. Its movers end first, while its zombie still keeps the group's number."""
        self.kill()
        code = self.process.wait()
        os.close(self.pidfd)
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1
        return Exit(code)


def error_in(message: dict[str, Any]) -> CkptdError:
    """The error of a worker that said `{"ok": false, …}`."""
    kind = BY_CODE.get(str(message.get("code")), CkptdError)
    return kind(str(message.get("message", "the worker did not say why")), hint=str(message.get("hint", "")))


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict) or "ok" not in message:
        return {"ok": False, "message": f"the worker said something unexpected: {line[:200]!r}", "code": "unexpected"}
    return message


def ends_with(supervisor: int) -> Callable[[], None]:
    """For a child: SIGKILL when the supervisor dies, so that no orphan keeps the lock, the socket, or the last /dev/fuse (then
    a mount's callers get ENOTCONN instead of waiting).

    Not SIGTERM: a worker that flushes for a minute would hold up the next daemon, and one that is killed loses nothing
    (a killed worker is an everyday case: see docs/architecture.md). The C library is looked up before the fork.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:  # it died before the line above
            os._exit(1)

    return arm
