"""Empty the node of what is exposed, because it is about to end."""

from __future__ import annotations

import time
from typing import Any

import click

from ckptctl import figures, listing
from ckptctl.app import command
from ckptctl.arguments import TIME
from ckptctl.commands.operations import start
from ckptctl.follow import error_of, follow
from ckptctl.meter import Operation
from ckptctl.session import Session, current
from ckptd.domain.errors import DaemonUnreachable, NotInTime

CLOUDS = ("alibaba", "aws", "azure", "gcp")
_PATIENCE_S = 60.0
"""After a notice without a deadline: how long a daemon that is away is waited for."""
_AGAIN_S = 0.5


@command("drain")
@click.option("--deadline", type=TIME, metavar="T", help="How long the node has left; then exit code 5.")
@click.option("--no-wait", is_flag=True, help="Print the operation and return; it goes on.")
@click.option(
    "--on-notice", type=click.Choice(CLOUDS), help="First wait until this cloud announces that it takes the node away."
)
@click.option("--metadata-url", metavar="URL", help="Where --on-notice asks, if not at the cloud's own address.")
@current
def drain(
    session: Session, deadline: float | None, no_wait: bool, on_notice: str | None, metadata_url: str | None
) -> None:
    """Make everything on the node durable, most valuable first: the newest whole checkpoint of every run.

    For a node that is drained, preempted or switched off. Nothing is refused meanwhile: jobs go on saving, and that is
    drained too.
    """
    if on_notice is None:
        operation = start(session, "drain", None, timeout=deadline)
    else:
        operation = _start_at_last(session, _noticed(session, on_notice, metadata_url, deadline))
    if no_wait and operation["state"] == "running":
        _show(session, operation)
        return
    # The deadline is the daemon's: it also holds when this command is gone, and after a restart of the worker.
    final = follow(session, operation, None)
    _show(session, final)
    error = error_of(final)
    if error is None:
        return
    if final["state"] == "timeout":
        raise NotInTime(
            f"not all was durable when the time was over: {final['result']}",
            hint="the daemon goes on uploading for as long as the node lives",
        )
    raise error


def _noticed(session: Session, cloud: str, url: str | None, limit: float | None) -> float | None:
    from ckptctl import notice  # noqa: PLC0415 - only here

    session.note(f"waiting for {cloud} to announce the end of this node")
    left = notice.wait(notice.CLOUDS[cloud], url)
    if left is None:
        session.note(f"{cloud} takes this node away now")
        return limit
    session.note(f"{cloud} takes this node away in {figures.duration(left)}")
    return left if limit is None else min(left, limit)


def _start_at_last(session: Session, deadline: float | None) -> Operation:
    """Nobody is there to type it again, and there is no other chance: the daemon may be restarted at this very moment.

    A drain that had begun all the same is not harmed by another.
    """
    end = time.monotonic() + (_PATIENCE_S if deadline is None else deadline)
    while True:
        left = end - time.monotonic()
        try:
            return start(session, "drain", None, timeout=None if deadline is None else max(left, _AGAIN_S))
        except DaemonUnreachable:
            if left <= 0:
                raise
            time.sleep(_AGAIN_S)


def _show(session: Session, operation: Operation) -> None:
    """The operation, and how each run stands."""
    runs: list[dict[str, Any]] = session.client.get("/v1/runs")
    if session.json:
        session.show({**operation, "runs": runs})
        return
    for line in listing.runs(runs, None):
        click.echo(line)
    if operation["state"] == "done":
        click.echo(f"drained in {figures.duration(operation['seconds'])}: {operation['result']}")
    elif operation["state"] == "running":
        number = operation["id"]
        click.echo(
            f"drain goes on as operation {number}   (progress: ckptctl status, stop it: ckptctl cancel {number})"
        )
