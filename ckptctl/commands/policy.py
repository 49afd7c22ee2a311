"""What is kept where: shown and changed."""

from __future__ import annotations

from typing import Any

import click

from ckptctl import table
from ckptctl.app import Group, command
from ckptctl.arguments import RUN
from ckptctl.session import Session, current
from ckptd.domain.errors import UsageError


@click.group(cls=Group)
def policy() -> None:
    """Show and change what is kept where. The most specific pattern wins, key by key."""


@command("show")
@click.argument("run", metavar="[RUN]", type=RUN, required=False)
@current
def show(session: Session, run: str | None) -> None:
    """What was set; with RUN, what holds for it and why."""
    if run is not None:
        _show_effective(session, run)
        return
    rows = session.client.get("/v1/policies", volume=session.volume)
    if session.json:
        session.show(rows)
    elif not rows:
        click.echo("nothing is set: the config file and the defaults hold (ckptctl policy show RUN)")
    else:
        lines = [(row["volume"], row["pattern"], _pairs(row["values"])) for row in rows]
        for line in table.lines(("VOLUME", "PATTERN", "POLICY"), lines):
            click.echo(line)


def _show_effective(session: Session, run: str) -> None:
    found = session.client.get("/v1/policies/effective", run=run, volume=session.volume)
    if session.json:
        session.show(found)
        return
    rows = [(key, str(value), found["sources"].get(key, "")) for key, value in found["values"].items()]
    for line in table.lines(("KEY", "VALUE", "FROM"), rows):
        click.echo(line)


@command("set")
@click.argument("pattern")
@click.argument("pairs", metavar="KEY=VALUE...", nargs=-1, required=True)
@current
def set_(session: Session, pattern: str, pairs: tuple[str, ...]) -> None:
    """Set keys for the runs that match PATTERN; its other keys stay.

    \b
    keep_hot=N     newest complete checkpoints of a run kept in RAM
    keep_nvme=N    … kept on this node at all
    keep_remote=N  … kept in the remote; 0: all
    keep_every=N   steps that are a multiple are kept for ever; 0: off
    sync=all|latest   latest: skip what was superseded before its upload began
    settle=T       quiet time before a checkpoint without a marker counts as complete
    nodes=N        nodes that write a checkpoint together; 0: found out
    """  # noqa: D301 - \b is click's mark for a paragraph that is not to be wrapped
    body = {"volume": session.volume, "pattern": pattern, "values": dict(_pair(pair) for pair in pairs)}
    row = session.client.send("PUT", "/v1/policies", body)
    if session.json:
        session.show(row)
    else:
        click.echo(f"{row['pattern']}: {_pairs(row['values'])}")


def _pair(text: str) -> tuple[str, int | str]:
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise UsageError(f"'{text}' is not of the form key=value", hint="e.g. keep_hot=2 (ckptctl policy set --help)")
    return key, int(value) if value.isascii() and value.isdecimal() and len(value) < 19 else value


def _pairs(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


@command("unset")
@click.argument("pattern")
@current
def unset(session: Session, pattern: str) -> None:
    """Forget what was set for PATTERN."""
    session.client.send("DELETE", "/v1/policies", pattern=pattern, volume=session.volume)
    if session.json:
        session.show({"pattern": pattern})
    else:
        click.echo(f"{pattern}: forgotten")


for _command in (show, set_, unset):
    policy.add_command(_command)
