"""What a command knows of its call: the global options, the client, and where to say what."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ckptctl.client import Client


@dataclass
class Session:
    socket: str | None = None
    """From `--socket`; None: found by `locate`."""
    volume: str | None = None
    json: bool = False

    @cached_property
    def socket_path(self) -> str:
        if self.socket:
            return os.path.abspath(os.path.expanduser(self.socket))
        from ckptctl import locate  # noqa: PLC0415 - `--version` and `--help` do without

        return locate.socket_path(os.environ)

    @cached_property
    def client(self) -> Client:
        from ckptctl.client import Client  # noqa: PLC0415 - `--version` and `--help` do without

        return Client(self.socket_path)

    def show(self, value: Any) -> None:
        """A result as JSON."""
        click.echo(json.dumps(value, indent=2))

    def show_line(self, value: Any) -> None:
        """One of a stream of results: one line each, at once."""
        click.echo(json.dumps(value))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Something for a person beside the result; with `--json` the result says it all."""
        if not self.json:
            click.echo(text, err=True)


current = click.make_pass_decorator(Session)
"""Hands the session to a command as its first argument."""
