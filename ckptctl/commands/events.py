"""What happened, newest last."""

from __future__ import annotations

from typing import Any

import click

from ckptctl.app import command
from ckptctl.session import Session, current

_COLOURS = {"warning": "yellow", "error": "red"}


@command("events")
@click.option("--follow", "-f", is_flag=True, help="Go on printing; with --json one object a line.")
@click.option(
    "--limit", "-n", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many of the past."
)
@current
def events(session: Session, follow: bool, limit: int) -> None:
    """What happened, newest last."""
    past = session.client.get("/v1/events", limit=limit)
    if session.json and not follow:
        session.show(past)
        return
    for record in past:
        _print(session, record)
    if not follow:
        return
    after = past[-1]["id"] if past else 0
    for record in session.client.stream("/v1/events", lambda _record: False, after=after, follow="true"):
        _print(session, record)


def _print(session: Session, record: dict[str, Any]) -> None:
    if session.json:
        session.show_line(record)
        return
    level = click.style(f"{record['level']:7}", fg=_COLOURS.get(record["level"]))
    click.echo(f"{record['at']}  {level}  {record['message']}  {click.style(record['event'], dim=True)}")
