"""What is there, and what is done to one checkpoint."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from ckptctl import figures, table
from ckptctl.app import command
from ckptctl.arguments import RUN, target_argument
from ckptctl.client import part
from ckptctl.session import Session, current
from ckptd.domain.errors import UsageError
from ckptd.domain.names import path_of

Checkpoint = dict[str, Any]
_COLOURS = {"committed": "green", "complete": "cyan", "writing": "yellow", "torn": "red", "lost": "red"}


@command("ls")
@click.argument("run", metavar="[RUN]", type=RUN, required=False)
@current
def ls(session: Session, run: str | None) -> None:
    """List runs, or a run's checkpoints: step, size, state, where its copies are."""
    path = "/v1/runs" if run is None else f"/v1/runs/{part(run)}/checkpoints"
    found = session.client.get(path, volume=session.volume)
    if session.json:
        session.show(found)
        return
    lines = _runs(found) if run is None else _checkpoints(found)
    for line in lines:
        click.echo(line)


def _runs(runs: list[dict[str, Any]]) -> list[str]:
    if not runs:
        return ["no runs yet: a run is a folder of the volume with checkpoints in it"]
    rows = [
        (
            run["run"], run["volume"], str(run["checkpoints"]), str(run["committed"]), _newest(run),
            figures.size(run["bytes"]), figures.share(run["hot_bytes"], run["bytes"]),
            figures.share(run["durable_bytes"], run["bytes"]),
        )
        for run in runs
    ]  # fmt: skip
    head = ("RUN", "VOLUME", "CHECKPOINTS", "COMMITTED", "NEWEST", "SIZE", "HOT", "DURABLE")
    return table.lines(head, rows, right=frozenset({2, 3, 5, 6, 7}))


def _newest(run: dict[str, Any]) -> str:
    return "-" if run["newest_step"] is None else f"{run['newest_step']} {run['newest_state']}"


def _checkpoints(checkpoints: list[Checkpoint]) -> list[str]:
    head = ("STEP", "STATE", "SIZE", "FILES", "HOT", "DURABLE", "TIERS", "WRITTEN", "FRAMEWORK", "")
    rows = [
        (
            str(one["step"]), one["state"], figures.size(one["bytes"]), str(one["files"]),
            figures.share(one["hot_bytes"], one["bytes"]), figures.share(one["durable_bytes"], one["bytes"]),
            "+".join(one["tiers"]) or "-", one["written_at"], one["framework"] or "-", _remark(one),
        )
        for one in checkpoints
    ]  # fmt: skip
    lines = table.lines(head, rows, right=frozenset({0, 2, 3, 4, 5}))
    return [lines[0], *(_coloured(line, one["state"]) for line, one in zip(lines[1:], checkpoints, strict=True))]


def _remark(one: Checkpoint) -> str:
    remarks = ["pinned"] * one["pinned"] + ["skipped"] * one["skipped"]
    return ", ".join([*remarks, one["reason"]] if one["reason"] else remarks)


def _coloured(line: str, state: str) -> str:
    """The table is laid out before colours go in; click drops them where there is no terminal."""
    return line.replace(f"  {state}", f"  {click.style(state, fg=_COLOURS.get(state))}", 1)


@command("latest")
@click.argument("run", type=RUN)
@current
def latest(session: Session, run: str) -> None:
    """Print the path of the newest restorable checkpoint, nothing else.

    \b
    python train.py --resume "$(ckptctl latest run-42)"
    """  # noqa: D301 - \b is click's mark for a paragraph that is not to be wrapped
    found = session.client.get(f"/v1/runs/{part(run)}/latest", volume=session.volume)
    hot = found["hot_bytes"] >= found["bytes"]
    if session.json:
        session.show(
            {"run": found["run"], "step": found["step"], "path": found["path"], "state": found["state"], "hot": hot}
        )
        return
    if not hot and _front(session, found["volume"]) != "mount":
        name = f"{found['run']}@{found['step']}"
        click.echo(f"{name} is not on this node yet; bring it here first: ckptctl prefetch '{name}'", err=True)
    click.echo(os.fsencode(path_of(found["path"])))


def _front(session: Session, volume: str) -> str:
    volumes = session.client.get("/v1/status")["volumes"]
    return next((str(served["front"]) for served in volumes if served["name"] == volume), "watch")


def _pin(session: Session, target: str, on: bool) -> None:
    found = session.client.send("PUT", "/v1/pins", {"volume": session.volume, "target": target, "on": on})
    if session.json:
        session.show(found)
    else:
        click.echo(f"{found['run']}@{found['step']} is {'pinned' if on else 'no longer pinned'}")


@command("pin")
@target_argument()
@current
def pin(session: Session, target: str) -> None:
    """Keep a checkpoint hot, whatever the policy says."""
    _pin(session, target, True)


@command("unpin")
@target_argument()
@current
def unpin(session: Session, target: str) -> None:
    """Leave a checkpoint to the policy again."""
    _pin(session, target, False)


@command("evict")
@target_argument()
@click.option("--force", is_flag=True, help="Even if it is not durable: its only copy is lost then.")
@current
def evict(session: Session, target: str, force: bool) -> None:
    """Drop a checkpoint's copies on this node; refused for what is not durable."""
    _work(session, "evict", target, force=force)


@command("rm")
@target_argument()
@click.option("--remote", is_flag=True, help="In the remote too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@current
def rm(session: Session, target: str, remote: bool, yes: bool) -> None:
    """Delete a checkpoint, or a whole run; asks on a terminal."""
    where = "from this node and from the remote" if remote else "from this node"
    if not yes:
        if session.json or not sys.stdin.isatty():
            raise UsageError(f"'{target}' is not deleted without --yes", hint="there is no terminal to ask on")
        click.confirm(f"Delete {_described(session, target)} {where}?", abort=True, err=True)
    _work(session, "remove", target, remote=remote)


def _described(session: Session, target: str) -> str:
    run, _, step = target.rpartition("@") if "@" in target else (target, "", "")
    found = session.client.get(f"/v1/runs/{part(run)}/checkpoints", volume=session.volume)
    if step:
        return target
    return f"all {len(found)} checkpoints of {run} ({figures.size(sum(one['bytes'] for one in found))})"


def _work(session: Session, kind: str, target: str, **arguments: bool) -> None:
    from ckptctl.commands.operations import start  # noqa: PLC0415 - `latest` starts faster without
    from ckptctl.follow import finish  # noqa: PLC0415 - as above

    operation = start(session, kind, target, **arguments)
    finish(session, operation, timeout=None, no_wait=False, outcome=_gone)


def _gone(operation: dict[str, Any]) -> str:
    """Speed says nothing here."""
    done = operation["result"] or f"{operation['target']}: {'evicted' if operation['kind'] == 'evict' else 'deleted'}"
    return f"{done}, {figures.size(operation['bytes_done'])}"
