"""What differs between two checkpoints."""

from __future__ import annotations

from typing import Any

import click

from ckptctl import figures, table
from ckptctl.app import command
from ckptctl.arguments import CHECKPOINT
from ckptctl.follow import error_of, follow
from ckptctl.session import Session, current

Diff = dict[str, Any]
_SHOWN = {"only-one": "only in {one}", "only-other": "only in {other}", "unchecked": "no checksum yet"}


@command("diff")
@click.argument("one", metavar="RUN@A", type=CHECKPOINT)
@click.argument("other", metavar="RUN@B", type=CHECKPOINT)
@click.option("--all", "everything", is_flag=True, help="List the files that are equal too.")
@current
def diff(session: Session, one: str, other: str, everything: bool) -> None:
    """Which files differ between two checkpoints, and in how many bytes, by the checksums of their parts.

    Files are compared by their names without the step. Checksums that are missing are taken first.
    """
    found = _ask(session, one, other)
    if found["unchecked"]:
        for target in (found["one"], found["other"]):
            _take_checksums(session, target)
        found = _ask(session, one, other)
    if session.json:
        session.show(found)
        return
    for line in _lines(found, everything):
        click.echo(line)


def _ask(session: Session, one: str, other: str) -> Diff:
    found: Diff = session.client.get("/v1/diff", volume=session.volume, one=one, other=other)
    return found


def _take_checksums(session: Session, target: str) -> None:
    from ckptctl.commands.operations import start  # noqa: PLC0415 - rarely needed

    error = error_of(follow(session, start(session, "checksum", target), None))
    if error is not None:
        raise error


def _lines(found: Diff, everything: bool) -> list[str]:
    one, other = found["one"], found["other"]
    shown = [file for file in found["files"] if everything or file["state"] != "equal"]
    rows = [
        (
            file["name"], _SHOWN.get(file["state"], file["state"]).format(one=one, other=other),
            "-" if file["state"] == "only-other" else figures.size(file["one_bytes"]),
            "-" if file["state"] == "only-one" else figures.size(file["other_bytes"]), _differing(file),
        )
        for file in shown
    ]  # fmt: skip
    head = ("FILE", "", one, other, "DIFFERS IN")
    lines = table.lines(head, rows, frozenset({2, 3, 4})) if rows else []
    equal = sum(file["state"] == "equal" for file in found["files"])
    total = found["equal_bytes"] + found["differing_bytes"]
    summary = (
        f"{equal} of {len(found['files'])} files are equal; {figures.size(found['differing_bytes'])} of {figures.size(total)}"
        f" ({figures.share(found['differing_bytes'], total) if total else '0%'}) differ"
    )
    for key, name in (("only_one_bytes", one), ("only_other_bytes", other)):
        if found[key]:
            summary += f"; {figures.size(found[key])} only in {name}"
    if found["unchecked"]:
        click.echo(f"{found['unchecked']} files could not be compared: no copy of theirs is on this node", err=True)
    return [*lines, summary]


def _differing(file: dict[str, Any]) -> str:
    if file["state"] != "differs":
        return ""
    longer = max(file["one_bytes"], file["other_bytes"])
    return f"{figures.size(file['differing_bytes'])} ({figures.share(file['differing_bytes'], longer)})"
