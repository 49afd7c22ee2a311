"""Waits for an operation to end: shows how far it is, leaves on Ctrl-C or when the time is over without stopping it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from ckptctl.arguments import TIME
from ckptctl.client import error_from
from ckptctl.meter import Operation, meter, title
from ckptctl.session import Session
from ckptd.domain.errors import CkptdError, NotInTime

TICK_S = 0.1


class Detached(KeyboardInterrupt):
    """Ctrl-C while following: the operation goes on."""


def waiting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--timeout` and `--no-wait`, as every command has them that starts long work."""
    function = click.option("--no-wait", is_flag=True, help="Print the operation and return; it goes on.")(function)
    return click.option(
        "--timeout", type=TIME, help="Return with exit code 5 after this time; the operation goes on."
    )(function)  # fmt: skip


def finish(
    session: Session, operation: Operation, *, timeout: float | None, no_wait: bool, outcome: Callable[[Operation], str]
) -> None:
    """Follows to the end, prints the result, raises what it ended with."""
    if no_wait and operation["state"] == "running":
        session.show(operation) if session.json else click.echo(_goes_on(operation))
        return
    final = follow(session, operation, timeout)
    if session.json:
        session.show(final)
    error = error_of(final)
    if error is not None:
        raise error
    if not session.json:
        click.echo(outcome(final))


def follow(session: Session, operation: Operation, timeout: float | None) -> Operation:
    """Its final state; state `timeout` when the time was over first. Raises Detached after Ctrl-C."""
    if operation["state"] != "running":
        return operation
    deadline = None if timeout is None else time.monotonic() + timeout
    feed = _Feed(session, operation["id"])
    try:
        with meter(json=session.json) as shown, feed:
            shown.show(operation)
            for state in feed.states(deadline):
                operation = state
                shown.show(operation)
    except KeyboardInterrupt:
        if session.json:
            session.show(operation)
        session.note(f"\ndetached: {_goes_on(operation)}")
        raise Detached from None
    if operation["state"] == "running":
        # What this command saw: it did not end in time. In the daemon it still runs.
        waits = f" ({operation['result']})" if operation.get("result") else ""
        return {**operation, "state": "timeout", "error": f"not done in time; it goes on in the daemon{waits}"}
    return operation


def error_of(operation: Operation) -> CkptdError | None:
    """The error an operation ended with; None when it is done."""
    state, name = operation["state"], title(operation)
    if state == "done":
        return None
    reason = operation.get("error") or state
    hint = operation.get("hint") or ""
    if state == "failed":
        detail = {"code": operation.get("error_code"), "message": f"{name}: {reason}", "hint": hint}
        return error_from({"error": detail})
    if state == "cancelled":
        return NotInTime(f"{name} was cancelled", hint=hint)
    how = f"progress: ckptctl ops   stop it: ckptctl cancel {operation['id']}"
    return NotInTime(f"{name}: {reason}", hint=hint or how)


def _goes_on(operation: Operation) -> str:
    number = operation["id"]
    return (
        f"{title(operation)} goes on as operation {number}   (progress: ckptctl ops, stop it: ckptctl cancel {number})"
    )


@dataclass
class _Feed:
    """A thread reads the stream, so that the one that draws can look at the clock and hear Ctrl-C."""

    session: Session
    operation: int
    _states: queue.SimpleQueue[Operation | BaseException | None] = field(default_factory=queue.SimpleQueue)

    def __enter__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        """The thread is left in its read: it ends with the stream or with the process."""

    def _read(self) -> None:
        try:
            path = f"/v1/operations/{self.operation}/events"
            for state in self.session.client.stream(path, lambda state: state["state"] != "running"):
                self._states.put(state)
            self._states.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for it
            self._states.put(error)

    def states(self, deadline: float | None) -> Iterator[Operation]:
        """Until the final one, or the deadline."""
        while deadline is None or time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                state = self._states.get(timeout=TICK_S)
                if state is None:
                    return
                if isinstance(state, BaseException):
                    raise state
                yield state
