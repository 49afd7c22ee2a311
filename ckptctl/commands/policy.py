"""What is kept where: shown and changed."""

from __future__ import annotations

import difflib
from typing import Any

import click

from ckptctl import figures, table
from ckptctl.app import Group, command
from ckptctl.arguments import RUN
from ckptctl.session import Session, current
from ckptd.domain.errors import UsageError

_NUMBERS = ("keep_hot", "keep_nvme", "keep_remote", "keep_every", "nodes")
_KEYS = (*_NUMBERS, "sync", "settle", "fsync")
_LARGEST = 10**9


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
@click.option("--dry-run", "-n", is_flag=True, help="Show what would go and what that frees; change nothing.")
@current
def set_(session: Session, pattern: str, pairs: tuple[str, ...], dry_run: bool) -> None:
    """Set keys for the runs that match PATTERN; its other keys stay.

    \b
    keep_hot=N     newest complete checkpoints of a run kept in RAM
    keep_nvme=N    … kept on this node at all
    keep_remote=N  … kept in the remote; 0: all
    keep_every=N   steps that are a multiple are kept for ever; 0: off
    sync=all|latest   latest: skip what was superseded before its upload began
    settle=T       quiet time before a checkpoint without a marker counts as complete
    nodes=N        nodes that write a checkpoint together; 0: found out
    fsync=local|remote   remote: on a mount, fsync waits for the remote
    """  # noqa: D301 - \b is click's mark for a paragraph that is not to be wrapped
    body = {"volume": session.volume, "pattern": pattern, "values": dict(_pair(pair) for pair in pairs)}
    if dry_run:
        _preview(session, session.client.send("POST", "/v1/policies/preview", body))
        return
    row = session.client.send("PUT", "/v1/policies", body)
    if session.json:
        session.show(row)
    else:
        click.echo(f"{row['pattern']}: {_pairs(row['values'])}")


_DONE = {"demote": "to NVMe", "evict": "off this node", "abandon": "lost for good", "prune": "off the remote"}
_PLACES = ("ram", "nvme", "remote")


def _preview(session: Session, found: dict[str, Any]) -> None:
    if session.json:
        session.show(found)
        return
    if not found["runs"]:
        click.echo(f"{found['pattern']}: nothing would go now")
        return
    rows = [
        (
            run["run"], "-" if one["step"] is None else str(one["step"]), *(_freed(one["freed"], place) for place in _PLACES),
            ", then ".join(_DONE.get(action, action) for action in one["actions"]),
        )
        for run in found["runs"]
        for one in run["checkpoints"]
    ]  # fmt: skip
    rows.append(("all", "", *(_freed(found["freed"], place) for place in _PLACES), "nothing was changed (--dry-run)"))
    for line in table.lines(("RUN", "STEP", "FREES IN RAM", "NVME", "REMOTE", ""), rows, frozenset({1, 2, 3, 4})):
        click.echo(line)


def _freed(freed: dict[str, int], place: str) -> str:
    count = freed.get(place, 0)
    if not count:
        return "-"
    return figures.size(count) if count > 0 else f"+{figures.size(-count)}"


def _pair(text: str) -> tuple[str, int | str]:
    """In the words of the command line: what the API says about its documents helps nobody here."""
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise UsageError(f"'{text}' is not of the form key=value", hint="e.g. keep_hot=2 (ckptctl policy set --help)")
    if key in _NUMBERS:
        if not (value.isascii() and value.isdecimal() and int(value) <= _LARGEST):
            raise UsageError(
                f"{key}={value} does not work: a number from 0 to {_LARGEST} is wanted", hint=f"e.g. {key}=2"
            )
        return key, int(value)
    if key == "sync":
        if value not in ("all", "latest"):
            raise UsageError(f"sync={value} does not work: it is all or latest", hint="ckptctl policy set --help")
    elif key == "fsync":
        if value not in ("local", "remote"):
            raise UsageError(f"fsync={value} does not work: it is local or remote", hint="ckptctl policy set --help")
    elif key == "settle":
        _check_time(value)
    else:
        close = difflib.get_close_matches(key, _KEYS, n=1)
        meant = f"; did you mean '{close[0]}'?" if close else ""
        raise UsageError(f"there is no policy key '{key}'{meant}", hint=f"the keys are {', '.join(_KEYS)}")
    return key, value


def _check_time(value: str) -> None:
    from ckptd.settings.quantities import parse_time  # noqa: PLC0415 - few calls name a time

    try:
        parse_time(value)
    except ValueError as error:
        raise UsageError(f"settle={value} does not work: {error}", hint="a time such as 2s or 500ms") from error


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
