"""One glanceable screen."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

import click

from ckptctl.app import command
from ckptctl.session import Session, current
from ckptd.domain.errors import DaemonUnreachable

REFRESH_S = 1.0


@command("status")
@click.option("--watch", "-w", is_flag=True, help="Refresh until Ctrl-C; with --json one object a line.")
@current
def status(session: Session, watch: bool) -> None:
    """Volumes, tiers, exposure, transfers, remote health, operations, recent trouble."""
    if not watch:
        found = session.client.get("/v1/status")
        if session.json:
            session.show(found)
            return
        from ckptctl import screen  # noqa: PLC0415 - rich is only paid for where a person looks

        console = screen.console()
        console.print(screen.status(found, console.width))
        return
    try:
        _watch_lines(session) if session.json else _watch_screen(session)
    except KeyboardInterrupt:
        return


def _watch_lines(session: Session) -> None:
    while True:
        session.show_line(session.client.get("/v1/status"))
        time.sleep(REFRESH_S)


def _watch_pages(session: Session) -> NoReturn:
    """Into a pipe or a file: one after the other, each at once."""
    from ckptctl import screen  # noqa: PLC0415 - as above

    console = screen.console()
    while True:
        console.print(screen.status(session.client.get("/v1/status")))
        sys.stdout.flush()
        time.sleep(REFRESH_S)


def _watch_screen(session: Session) -> None:
    from rich.live import Live  # noqa: PLC0415 - as above

    from ckptctl import screen  # noqa: PLC0415 - as above

    console = screen.console()
    if not console.is_terminal:
        _watch_pages(session)
    status = session.client.get("/v1/status")
    with Live(screen.status(status, console.width), console=console, screen=True) as live:
        while True:
            time.sleep(REFRESH_S)
            try:
                live.update(screen.status(session.client.get("/v1/status"), console.width), refresh=True)
            except DaemonUnreachable as error:
                live.update(screen.away(error), refresh=True)
