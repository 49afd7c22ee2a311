"""Checks of the machine. They need the backends, which this package never touches: `ckptd doctor` runs them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import click

from ckptctl.app import command
from ckptctl.arguments import daemon_flags
from ckptctl.client import Client
from ckptctl.session import Session
from ckptctl.start import Flags, arguments
from ckptd.domain.errors import CkptdError, DaemonUnreachable

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "skipped": ("-", None)}
FAILED = 1
"""Exit code when a check failed."""


@command("doctor")
@daemon_flags
@click.pass_context
def doctor(context: click.Context, /, **flags: str | None) -> None:
    """Check kernel, FUSE, tiers, credentials, remote, clock and limits, and say how to fix each.

    Checks what the running daemon serves; with the flags of `up`, or without a daemon, what that `up` would use.
    """
    session = context.ensure_object(Session)
    meant: Flags = flags if any(flags.values()) else _served(session)
    checks = _run({**meant, "socket": session.socket})
    if session.json:
        session.show(checks)
    else:
        for check in checks:
            _print(check)
    if any(check["state"] == "failed" for check in checks):
        context.exit(FAILED)


def _served(session: Session) -> Flags:
    """The flags that stand for the running daemon: it may have been started with others than the settings name."""
    try:
        status = Client(session.socket_path, patience_s=0, answer_s=5).get("/v1/status")
    except DaemonUnreachable:
        return {}
    served = status["volumes"]
    if len(served) != 1:
        return {"state_dir": status["state_dir"]}
    return {"path": served[0]["path"], "remote": served[0]["remote"], "state_dir": status["state_dir"]}


def _run(flags: Flags) -> list[dict[str, Any]]:
    words = arguments(flags, "doctor", "--json")
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    try:
        checks = json.loads(done.stdout)
        assert isinstance(checks, list)
    except (ValueError, AssertionError) as error:
        said = done.stderr.strip() or done.stdout.strip() or "nothing"
        raise CkptdError(f"`ckptd doctor` ended with code {done.returncode}", hint=said) from error
    return checks


def _print(check: dict[str, Any]) -> None:
    mark, colour = _MARKS.get(check["state"], ("?", None))
    click.echo(f"{click.style(mark, fg=colour)} {check['check']}: {check['detail']}")
    if check["fix"] and check["state"] in ("warning", "failed"):
        for line in check["fix"].splitlines():
            click.echo(f"    {line}")
