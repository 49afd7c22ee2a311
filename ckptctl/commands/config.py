"""The settings, without a daemon: validated, and shown with where each came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ckptctl import table
from ckptctl.app import Group, command
from ckptctl.session import Session, current

if TYPE_CHECKING:
    from ckptd.settings import Effective


@click.group(cls=Group)
def config() -> None:
    """Validate and show the settings."""


def _load(file: str | None) -> Effective:
    from ckptd.settings import load  # noqa: PLC0415 - pydantic models take a tenth of a second

    return load(config=file)


@command("check")
@click.argument("file", required=False, type=click.Path())
@click.option("--config", "named", metavar="FILE", help="The same as FILE.")
@current
def check(session: Session, file: str | None, named: str | None) -> None:
    """Validate a config file (the usual one without FILE) and CKPTD_* variables; names file, line and key."""
    effective = _load(file or named)
    if session.json:
        session.show({"ok": True, "config": effective.config})
    else:
        click.echo(f"{effective.config or 'no config file: the defaults'}: valid")


@command("show")
@click.option("--config", "file", metavar="FILE", help="A file instead of the usual one.")
@current
def show(session: Session, file: str | None) -> None:
    """The effective settings and where each came from."""
    effective = _load(file)
    from ckptd.settings import describe  # noqa: PLC0415 - as above

    rows = describe(effective)
    if session.json:
        session.show([{"key": row.key, "value": row.value, "origin": row.origin} for row in rows])
        return
    for line in table.lines(("KEY", "VALUE", "FROM"), [(row.key, row.value, row.origin) for row in rows]):
        click.echo(line)


config.add_command(check)
config.add_command(show)
