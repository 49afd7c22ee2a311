"""Names for steps: `run-42@best` instead of `run-42@1200`."""

from __future__ import annotations

from typing import Any

import click

from ckptctl import table
from ckptctl.app import command
from ckptctl.arguments import RUN, TAG, target_argument
from ckptctl.session import Session, current
from ckptd.domain.errors import NotKnown, UsageError
from ckptd.domain.names import CheckpointId

Tag = dict[str, Any]


@command("tag")
@target_argument()
@click.argument("name", type=TAG, required=False)
@click.option("--delete", "-d", is_flag=True, help="Take the name back; fine if it is gone already.")
@current
def tag(session: Session, target: str, name: str | None, delete: bool) -> None:
    """Name a step: RUN@NAME then stands for it, and the policy never lets it go.

    \b
    ckptctl tag run-42@1200 best     sets it, or moves it there
    ckptctl tag run-42 best --delete
    ckptctl tag run-42               lists the run's tags
    """  # noqa: D301 - \b is click's mark for a paragraph that is not to be wrapped
    if name is None:
        if delete or "@" in target:
            raise UsageError("which tag? its name is missing", hint="e.g. ckptctl tag run-42@1200 best")
        _list(session, target)
    elif delete:
        _delete(session, target, name)
    else:
        _set(session, target, name)


@command("tags")
@click.argument("run", metavar="[RUN]", type=RUN, required=False)
@current
def tags(session: Session, run: str | None) -> None:
    """List the tags of a run, or of all runs."""
    _list(session, run)


def _set(session: Session, target: str, name: str) -> None:
    found = session.client.send("PUT", "/v1/tags", {"volume": session.volume, "target": target, "name": name})
    if session.json:
        session.show(found)
        return
    click.echo(f"{found['run']}@{found['step']} is tagged {name}")
    if not found["sent"]:
        click.echo("the remote does not answer now: other nodes see the tag when it does", err=True)


def _delete(session: Session, target: str, name: str) -> None:
    """With a step: only if the tag is there."""
    meant = CheckpointId.parse(target)
    if meant.step is not None:
        there = session.client.get("/v1/tags", volume=session.volume, run=meant.run)
        step = next((tag["step"] for tag in there if tag["name"] == name), meant.step)
        if step != meant.step:
            raise NotKnown(
                f"{target} is not tagged {name}: {meant.run}@{step} is",
                hint=f"without the step it is deleted wherever it is: ckptctl tag {meant.run} {name} --delete",
            )
    session.client.send("DELETE", "/v1/tags", volume=session.volume, run=meant.run, name=name)
    if session.json:
        session.show({"run": meant.run, "name": name})
    else:
        click.echo(f"{name}: no longer a tag of {meant.run}")


def _list(session: Session, run: str | None) -> None:
    found: list[Tag] = session.client.get("/v1/tags", volume=session.volume, run=run)
    if session.json:
        session.show(found)
    elif not found:
        click.echo("no tags yet: ckptctl tag RUN@STEP NAME sets one")
    else:
        rows = [
            (one["run"], one["name"], str(one["step"]), one["by"], one["at"], "" if one["sent"] else "not sent yet")
            for one in found
        ]
        for line in table.lines(("RUN", "TAG", "STEP", "SET ON", "AT", ""), rows, right=frozenset({2})):
            click.echo(line)
