"""`status` drawn with rich: what a person wants to know at a glance, worst news in red."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ckptctl import figures
from ckptd.domain.errors import CkptdError

Status = dict[str, Any]
NO_TERMINAL = 1000
"""Columns where nobody looks: wide enough not to break what is searched for."""
WIDE = 120
"""Columns from which on paths have room beside the figures."""
BAR = 24
_LEVELS = {"warning": "yellow", "error": "red"}


def console() -> Console:
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=NO_TERMINAL)


def status(found: Status, width: int = NO_TERMINAL) -> RenderableType:
    """`width`: columns there are; paths are never cut, on a narrow terminal they get lines of their own."""
    narrow = width < WIDE
    parts: list[RenderableType] = [_title(found), _volumes(found, narrow), _tiers(found, narrow), _safety(found)]
    if found["operations"]:
        parts.append(_operations(found))
    if found["trouble"]:
        parts.append(_trouble(found))
    return Group(*(line for part in parts for line in (part, "")))


def away(error: CkptdError) -> RenderableType:
    return Group(Text(error.message, style="red"), Text(error.hint))


def _title(found: Status) -> Text:
    text = Text.assemble(
        ("ckptd ", "bold"), f"{found['version']} on ", (found["node"], "bold"),
        f"   up {figures.duration(found['uptime_s'])}   pid {found['pid']}",
    )  # fmt: skip
    if found["restarts"]:
        text.append(f"   restarted {found['restarts']}×", "yellow")
    return text


def _sections(columns: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    for _ in range(columns - 1):
        table.add_column(overflow="fold")
    return table


def _volumes(found: Status, narrow: bool) -> RenderableType:
    """What is wrong with a remote gets lines of its own: it may be long, and is what one came for."""
    table, lines, notes, wrong = _sections(5), list[Text](), list[Text](), list[Text]()
    for volume in found["volumes"]:
        counts = f"{volume['runs']} runs, {volume['checkpoints']} checkpoints"
        front = volume["front"] + (" (passthrough)" if volume["passthrough"] else "")
        if narrow:
            lines.append(Text.assemble((volume["name"], "bold"), f"  {front}  {counts}"))
            lines += [Text(f"  {volume['path']}", overflow="fold"), Text(f"  → {volume['remote']}", overflow="fold")]
        else:
            table.add_row(volume["name"], Text(volume["path"]), Text(f"→ {volume['remote']}"), front, counts)
        if volume["front_reason"]:
            why = "not passthrough" if volume["front"] == "mount" else "not mounted"
            notes.append(Text(f"{volume['name']}: {why}: {volume['front_reason']}", style="dim", overflow="fold"))
        if not volume["remote_ok"]:
            since = (
                f" since {volume['remote_since']} ({_ago(volume['remote_since'])})" if volume["remote_since"] else ""
            )
            message = f": {volume['remote_error']}" if volume["remote_error"] else ""
            wrong.append(Text(f"{volume['name']}: remote unreachable{since}{message}", style="red", overflow="fold"))
    return Group(*lines, *notes, *wrong) if narrow else Group(table, *notes, *wrong)


def _tiers(found: Status, narrow: bool) -> RenderableType:
    table, lines = _sections(4), list[Text]()
    for tier in found["tiers"]:
        used, budget = tier["used_bytes"], tier["budget_bytes"]
        effective = tier.get("effective_budget_bytes", budget)
        full = effective > 0 and used / effective > 0.9
        bar = _bar(used, effective, "red" if full else "green")
        text = Text(f"{figures.size(used)} of {figures.size(budget)}  {figures.share(used, effective)}")
        if tier["pinned_bytes"]:
            text.append(f"   pinned {figures.size(tier['pinned_bytes'])}", "dim")
        if effective < budget:
            text.append(f"   shrunk to {figures.size(effective)} by memory pressure", "yellow")
        path = Text(tier["path"], style="dim", overflow="fold")
        if narrow:
            lines += [
                Text.assemble((f"{tier['name'].upper():5}", "bold"), " ", bar, "  ", text),
                Text("  ").append_text(path),
            ]
        else:
            table.add_row(tier["name"].upper(), bar, text, path)
    return Group(*lines) if narrow else table


def _safety(found: Status) -> Table:
    table = _sections(2)
    exposure, transfers = found["exposure"], found["transfers"]
    if exposure["files"] or exposure["bytes"]:
        age = f", the oldest for {figures.duration(exposure['oldest_s'])}" if exposure["oldest_s"] is not None else ""
        text = Text(
            f"{figures.size(exposure['bytes'])} in {exposure['files']} files not durable yet{age}", style="yellow"
        )
    else:
        text = Text("none: all is durable", style="green")
    table.add_row("exposure", text)
    up, down, queued = (transfers[key] for key in ("upload_bytes_per_s", "download_bytes_per_s", "queued_bytes"))
    line = f"↑ {figures.speed(up)}   ↓ {figures.speed(down)}"
    if queued:
        left = f", {figures.duration(queued / (up + down))} left" if up + down > 0 else ""
        line += f"   {figures.size(queued)} to go{left}"
    if copied := transfers.get("copied_bytes"):
        line += f"   {figures.size(copied)} copied inside the remote, {figures.size(transfers['sent_bytes'])} sent"
    table.add_row("transfers", line)
    return table


def _operations(found: Status) -> Table:
    table = _sections(4)
    for operation in found["operations"]:
        done, total = operation["bytes_done"], operation["bytes_total"]
        text = f"{figures.size(done)} of {figures.size(total)}"
        if operation["state"] != "running":
            text += f"   {operation['state']}"
        elif (moved := done - operation.get("bytes_before", 0)) > 0 and operation["seconds"] > 0:
            rate = moved / operation["seconds"]
            text += f"   {figures.speed(rate)}, {figures.duration((total - done) / rate)} left"
        if operation["state"] == "running" and operation.get("deadline_at"):
            text += f"   {figures.duration(_until(operation['deadline_at']))} to its deadline"
        bar = _bar(done, total, "cyan")
        table.add_row(
            f"#{operation['id']}", Text(f"{operation['kind']} {operation['target']}", overflow="fold"), bar, text
        )
    return table


def _trouble(found: Status) -> Table:
    table = _sections(3)
    for record in found["trouble"][-5:]:
        level = Text(record["level"], style=_LEVELS.get(record["level"], ""))
        table.add_row(level, f"{_ago(record['at'])} ago", Text(record["message"], overflow="fold"))
    return table


def _bar(part: int, whole: int, style: str) -> Text:
    """Reads well without colour too."""
    filled = 0 if whole <= 0 else min(BAR, round(BAR * part / whole))
    return Text.assemble(("█" * filled, style), ("░" * (BAR - filled), "dim"), no_wrap=True, overflow="ignore")


def _until(when: str) -> float:
    return max(0.0, (datetime.fromisoformat(when) - datetime.now(UTC)).total_seconds())


def _ago(when: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(when)).total_seconds()
    return figures.duration(max(0.0, seconds))
