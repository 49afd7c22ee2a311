"""Starts the daemon as a process of its own and waits for its one line: it serves, or why it does not."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn

from ckptctl import locate
from ckptctl.client import error_from
from ckptd.domain.errors import AlreadyRunning, CkptdError, NotInTime, StateUnusable

READY_S = 60.0
"""How long a start may take before we stop waiting for it (it goes on)."""
PATIENCE_S = 3.0
"""Silence before we say what we wait for."""

COMMAND = (sys.executable, "-I", "-m", "ckptd")
"""This interpreter: it works without PATH, from any virtualenv. Isolated: no stray directory can shadow a package."""

Flags = Mapping[str, str | None]
"""Of `up`, by their Python names; `path` is the argument."""


def arguments(flags: Flags, *first: str) -> list[str]:
    words = [*COMMAND, *first]
    for name, value in flags.items():
        if value is not None and name != "path":
            words.append(f"--{name.replace('_', '-')}={value}")
    path = flags.get("path")
    return words if path is None else [*words, "--", path]  # a path may begin with a dash


def foreground(flags: Flags) -> NoReturn:
    words = arguments(flags)
    sys.stdout.flush()
    os.execv(words[0], words)  # noqa: S606 - without a shell is how it is meant


def detached(
    flags: Flags, state_dir: str, running: Callable[[], Any], note: Callable[[str], None]
) -> dict[str, Any] | None:
    """None once the new daemon serves. If another one was faster, what that one reports.

    Raises what the daemon says kept it from starting; NotInTime when it says nothing for a minute.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    path = locate.log_path(state_dir)
    with open(reading, "rb") as ready, _log(path) as log:
        began = log.tell()
        process = subprocess.Popen(
            arguments({"ready_fd": str(writing), **flags}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        line = _line(ready.fileno(), lambda: note(f"waiting for ckptd (pid {process.pid}); log: {path}"))
    if line is None:
        raise NotInTime(
            f"ckptd (pid {process.pid}) does not serve after {READY_S:.0f} s; it goes on trying",
            hint=f"see its log: {path}",
        )
    if not line:
        raise _died(process, path, began)
    # It outlives us on purpose; an unburied child would be complained about when this object goes.
    process.returncode = 0
    answer = json.loads(line)
    if answer["ok"]:
        return None
    error = error_from({"error": answer})
    if isinstance(error, AlreadyRunning):
        return _other(running, error)
    raise error


def _log(path: str) -> BinaryIO:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        log = open(descriptor, "ab")  # noqa: SIM115 - the caller's `with` closes it
    except OSError as error:
        raise StateUnusable(
            f"the log {path} cannot be written: {error.strerror}", hint="choose another directory with --state-dir"
        ) from error
    log.seek(0, os.SEEK_END)
    return log


def _line(fd: int, still_waiting: Callable[[], None]) -> bytes | None:
    """What was said until the end or the line's; None when the time was over first."""
    said, began, told = b"", time.monotonic(), False
    while (waited := time.monotonic() - began) < READY_S:
        if waited > PATIENCE_S and not told:
            still_waiting()
            told = True
        if not select.select([fd], [], [], 0.2)[0]:
            continue
        piece = os.read(fd, 65536)
        said += piece
        if not piece or said.endswith(b"\n"):
            return said.strip()
    return None


def _died(process: subprocess.Popen[bytes], log: str, began: int) -> CkptdError:
    code = process.wait()
    with open(log, "rb") as file:
        file.seek(began)
        said = file.read()[-4096:].decode(errors="replace").splitlines()[-5:]
    return CkptdError(f"ckptd ended with code {code} before it served", hint="\n".join([*said, f"log: {log}"]))


def _other(running: Callable[[], Any], error: AlreadyRunning) -> dict[str, Any]:
    """Somebody holds the state directory: if it is a daemon on its way up (two `up` at once), it will answer."""
    deadline = time.monotonic() + READY_S / 6
    while time.monotonic() < deadline:
        found: dict[str, Any] | None = running()
        if found is not None:
            return found
        time.sleep(0.2)
    raise error
