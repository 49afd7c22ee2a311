"""Stops the daemon: asks it to flush and end, watches, and waits until its processes are gone."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from typing import Any

import click

from ckptctl import locate
from ckptctl.client import Client
from ckptctl.commands.operations import exposed
from ckptctl.follow import follow
from ckptctl.meter import Operation
from ckptctl.session import Session
from ckptd.domain.errors import CkptdError, DaemonUnreachable, NotInTime

END_S = 90.0
"""After the flush: catalog closed, volumes unmounted. More than the supervisor gives its worker."""


def down(session: Session, *, timeout: float | None, flush: bool, evict: bool, force: bool) -> None:
    try:
        client = Client(session.socket_path, patience_s=2, answer_s=10)
        status = client.get("/v1/status")
        supervisor = status.get("supervisor_pid") or _holder(status.get("state_dir") or _state_dir(session))
        pids = [pid for pid in (supervisor, status["pid"]) if pid]
        asked = {"flush": flush, "evict": evict, "force": force} | ({} if timeout is None else {"timeout": timeout})
        answer = client.send("POST", "/v1/shutdown", asked)
    except DaemonUnreachable as error:
        _without_an_answer(session, error)
        return
    if answer["operation"] is not None:
        _await_flush(session, answer["operation"], pids)
    _await_end(pids)
    _say(session, stopped=True, text=f"ckptd is down (pid {pids[0]})")


def _await_flush(session: Session, operation: Operation, pids: list[int]) -> None:
    """Raises NotInTime, saying what is exposed, where the daemon goes on because its flush did not succeed."""
    try:
        final = follow(session, operation, None)
    except DaemonUnreachable:
        if not any(_alive(pid) for pid in pids):
            return  # it was done and went before the last word got through
        raise
    except KeyboardInterrupt:
        session.note("ckptd stops when the flush is done")
        raise
    if final["state"] == "done":
        return
    reason = f" ({final['error']})" if final["error"] else ""
    raise NotInTime(
        f"ckptd goes on: the flush ended as {final['state']}{reason}; {exposed(session)}",
        hint="give it more time: ckptctl down --timeout 10m; or stop now, to upload after the next start: --no-flush",
    )


def _await_end(pids: list[int]) -> None:
    deadline = time.monotonic() + END_S
    while any(_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise NotInTime(f"ckptd (pid {pids[0]}) has flushed but has not ended yet", hint="see its log")
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    """A zombie is not: in a container nobody may ever bury it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _without_an_answer(session: Session, error: DaemonUnreachable) -> None:
    """Nothing listens, or nothing answers. A supervisor that lives all the same is told by signal."""
    holder = _holder(_state_dir(session))
    if holder is None:
        _say(session, stopped=False, text=f"ckptd is not running ({error.message})")
        return
    session.note(f"{error.message}; stopping its supervisor, pid {holder}")
    try:
        os.kill(holder, signal.SIGTERM)
    except PermissionError as refused:
        raise CkptdError(f"ckptd (pid {holder}) belongs to another user", hint="ask root to stop it") from refused
    except ProcessLookupError:
        pass
    _await_end([holder])
    _say(session, stopped=True, text=f"ckptd is down (pid {holder})")


def _state_dir(session: Session) -> str:
    beside = os.path.dirname(session.socket_path)
    return beside if os.path.exists(os.path.join(beside, "lock")) else locate.state_dir(os.environ)


def _holder(state_dir: str) -> int | None:
    """The living supervisor that holds the state directory: the pid in the lock file counts only while it is locked."""
    try:
        with open(os.path.join(state_dir, "lock"), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read(32).strip()
                pid = int(text) if text.isdigit() else None
                return pid if pid is not None and _alive(pid) else None
    except (FileNotFoundError, PermissionError):
        return None
    return None


def _say(session: Session, *, stopped: bool, text: str) -> None:
    result: dict[str, Any] = {"stopped": stopped}
    session.show(result) if session.json else click.echo(text)
