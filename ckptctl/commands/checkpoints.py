"""What is there, and what is done to one checkpoint."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import Any

import click

from ckptctl import figures
from ckptctl.app import command
from ckptctl.arguments import RUN, RUN_OR_CHECKPOINT, target_argument
from ckptctl.client import part
from ckptctl.session import Session, current
from ckptd.domain.errors import NotAllowed, NotKnown, UsageError
from ckptd.domain.names import CheckpointId, path_of

Checkpoint = dict[str, Any]


@command("ls")
@click.argument("target", metavar="[RUN[@STEP]]", type=RUN_OR_CHECKPOINT, required=False)
@current
def ls(session: Session, target: str | None) -> None:
    """List runs, or a run's checkpoints: step, size, state, where its copies are."""
    from ckptctl import listing  # noqa: PLC0415 - `latest` starts faster without

    if target is None:
        runs = session.client.get("/v1/runs", volume=session.volume)
        session.show(runs) if session.json else _print(listing.runs(runs, _width()))
        return
    found = _listed(session, target)
    session.show(found) if session.json else _print(listing.checkpoints(found, _width()))


def _listed(session: Session, target: str) -> list[Checkpoint]:
    """A run's checkpoints, or the one that is named. A run's name may contain '@', so that is tried first."""
    try:
        return _checkpoints_of(session, target)
    except NotKnown:
        if "@" not in target:
            raise
    meant = CheckpointId.parse(target)
    found = [
        one for one in _checkpoints_of(session, meant.run) if one["step"] == meant.step or meant.tag in one["tags"]
    ]
    if not found:
        raise NotKnown(f"there is no checkpoint {target}", hint=f"see: ckptctl ls {meant.run}")
    return found


def _checkpoints_of(session: Session, run: str) -> list[Checkpoint]:
    found: list[Checkpoint] = session.client.get(f"/v1/runs/{part(run)}/checkpoints", volume=session.volume)
    return found


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _width() -> int | None:
    """Columns of the terminal; None where a program reads, which wants a line for each."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@command("latest")
@click.argument("run", type=RUN)
@current
def latest(session: Session, run: str) -> None:
    """Print the path of the newest restorable checkpoint, nothing else.

    \b
    python train.py --resume "$(ckptctl latest run-42)"
    python train.py --resume "$(ckptctl latest run-42@best)"      # by tag
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
@click.option("--force", is_flag=True, help="Even if it is tagged; its tags go with it.")
@current
def rm(session: Session, target: str, remote: bool, yes: bool, force: bool) -> None:
    """Delete a checkpoint, or a whole run; asks on a terminal. Refused for what is tagged."""
    where = "from this node and from the remote" if remote else "from this node"
    if not yes:
        if session.json or not sys.stdin.isatty():
            raise UsageError(f"'{target}' is not deleted without --yes", hint="there is no terminal to ask on")
        click.confirm(f"Delete {_described(session, target, force=force)} {where}?", abort=True, err=True)
    _work(session, "remove", target, remote=remote, force=force)


def _described(session: Session, target: str, *, force: bool) -> str:
    """What would go, for the question; there is none about what is refused anyway."""
    meant = CheckpointId.parse(target)
    named = meant.step is not None or meant.tag is not None
    found = _listed(session, target) if named else _checkpoints_of(session, meant.run)
    if not force and (tagged := [one for one in found if one["tags"]]):
        raise NotAllowed(
            f"{meant.run}@{tagged[0]['step']} is tagged {', '.join(tagged[0]['tags'])}",
            hint=f"--force deletes it all the same; ckptctl tag {meant.run} {tagged[0]['tags'][0]} --delete takes the tag back",
        )
    size = figures.size(sum(one["bytes"] for one in found))
    return (
        f"{meant.run}@{found[0]['step']} ({size})" if named else f"all {len(found)} checkpoints of {meant.run} ({size})"
    )


def _work(session: Session, kind: str, target: str, **arguments: bool) -> None:
    from ckptctl.commands.operations import start  # noqa: PLC0415 - `latest` starts faster without
    from ckptctl.follow import finish  # noqa: PLC0415 - as above

    operation = start(session, kind, target, **arguments)
    finish(session, operation, timeout=None, no_wait=False, outcome=_gone)


def _gone(operation: dict[str, Any]) -> str:
    """Speed says nothing here."""
    done = operation["result"] or f"{operation['target']}: {'evicted' if operation['kind'] == 'evict' else 'deleted'}"
    return f"{done}, {figures.size(operation['bytes_done'])}"
