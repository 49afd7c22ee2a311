"""Long work: start it, watch it, stop it."""

from __future__ import annotations

import os
from typing import Any

import click

from ckptctl import figures, table
from ckptctl.app import command
from ckptctl.arguments import TIME, as_key, target_argument
from ckptctl.follow import finish, waiting_options
from ckptctl.meter import Operation, title
from ckptctl.session import Session, current
from ckptd.domain.errors import NotInTime


def start(session: Session, kind: str, target: str | None, **arguments: Any) -> Operation:
    given = {name: value for name, value in arguments.items() if value is not None}
    body = {"kind": kind, "volume": session.volume, "target": target, "arguments": given}
    operation: Operation = session.client.send("POST", "/v1/operations", body)
    return operation


def summary(operation: Operation) -> str:
    """`prefetch run-42@1200: 1.0 GiB in 3.2 s (320.0 MiB/s)  /ckpt/run-42/checkpoint-1200`."""
    done, seconds = operation["bytes_done"], operation["seconds"]
    moved = done - operation.get("bytes_before", 0)
    text = f"{title(operation)}: {figures.size(done)} in {figures.duration(seconds)}"
    if moved < done:
        text = f"{title(operation)}: {figures.size(done)}, {figures.size(moved)} of it in {figures.duration(seconds)}"
    if moved > 0 and seconds > 0:
        text += f" ({figures.speed(moved / seconds)})"
    return f"{text}  {operation['result']}" if operation.get("result") else text


@command("prefetch")
@target_argument()
@click.option(
    "--to", type=click.Choice(["ram", "nvme"]), default="ram", show_default=True, help="The tier it is wanted in."
)
@click.option("--match", metavar="GLOB", help="Only files whose path in the checkpoint matches.")
@click.option("--ttl", type=TIME, help="Keep it there for so long, whatever the policy says.")
@waiting_options
@current
def prefetch(
    session: Session, target: str, to: str, match: str | None, ttl: float | None, timeout: float | None, no_wait: bool
) -> None:
    """Make a checkpoint hot; done at once if it is.

    Ctrl-C detaches: the prefetch goes on.
    """
    operation = start(session, "prefetch", target, to=to, match=match, ttl=ttl)
    finish(session, operation, timeout=timeout, no_wait=no_wait, outcome=summary)


@command("flush")
@target_argument(required=False)
@waiting_options
@current
def flush(session: Session, target: str | None, timeout: float | None, no_wait: bool) -> None:
    """Return when everything named is durable and committed; without a name, everything."""
    operation = start(session, "flush", target)
    try:
        finish(
            session, operation, timeout=timeout, no_wait=no_wait, outcome=lambda done: f"{summary(done)}  all durable"
        )
    except NotInTime as error:
        raise NotInTime(f"{error.message}; {exposed(session)}", hint=error.hint) from error


@command("verify")
@target_argument()
@click.option("--remote", is_flag=True, help="The copies in the remote too.")
@waiting_options
@current
def verify(session: Session, target: str, remote: bool, timeout: float | None, no_wait: bool) -> None:
    """Read every byte of the local (and remote) copies against the checksums."""
    operation = start(session, "verify", target, remote=remote)
    finish(session, operation, timeout=timeout, no_wait=no_wait, outcome=summary)


@command("scrub")
@target_argument(required=False)
@click.option("--remote", is_flag=True, help="The objects in the remote too.")
@waiting_options
@current
def scrub(session: Session, target: str | None, remote: bool, timeout: float | None, no_wait: bool) -> None:
    """Do now what the background check does: read copies at rest, put right what is bad.

    At the pace of `[scrub]`, and behind everything else. Without a name, everything.
    """
    operation = start(session, "scrub", target, remote=remote)
    finish(session, operation, timeout=timeout, no_wait=no_wait, outcome=summary)


@command("restore")
@target_argument()
@click.argument("dest", type=click.Path(file_okay=False))
@waiting_options
@current
def restore(session: Session, target: str, dest: str, timeout: float | None, no_wait: bool) -> None:
    """Copy a checkpoint into any directory, verified."""
    operation = start(session, "restore", target, dest=as_key(os.path.abspath(dest)))
    finish(session, operation, timeout=timeout, no_wait=no_wait, outcome=summary)


@command("ops")
@current
def ops(session: Session) -> None:
    """List operations and their progress, newest last."""
    operations = session.client.get("/v1/operations")
    if session.json:
        session.show(operations)
    elif not operations:
        click.echo("no operations")
    else:
        head = ("ID", "OPERATION", "STATE", "DONE", "OF", "TIME", "")
        for line in table.lines(head, [_row(operation) for operation in operations], right=frozenset({0, 3, 4, 5})):
            click.echo(line)


def _row(operation: Operation) -> tuple[str, ...]:
    return (
        str(operation["id"]), title(operation), operation["state"], figures.size(operation["bytes_done"]),
        figures.size(operation["bytes_total"]), figures.duration(operation["seconds"]), operation["error"] or "",
    )  # fmt: skip


@command("cancel")
@click.argument("number", metavar="ID", type=click.IntRange(min=1, max=2**63 - 1))
@current
def cancel(session: Session, number: int) -> None:
    """Stop an operation."""
    operation = session.client.send("POST", f"/v1/operations/{number}/cancel")
    if session.json:
        session.show(operation)
    else:
        click.echo(f"{title(operation)}: {operation['state']}")


def exposed(session: Session) -> str:
    """`still exposed: 3.2 GiB in 4 files, the oldest for 40 s`."""
    exposure = session.client.get("/v1/status")["exposure"]
    if not exposure["bytes"] and not exposure["files"]:
        return "nothing is exposed by now"
    age = f", the oldest for {figures.duration(exposure['oldest_s'])}" if exposure["oldest_s"] is not None else ""
    return f"still exposed: {figures.size(exposure['bytes'])} in {exposure['files']} files{age}"
