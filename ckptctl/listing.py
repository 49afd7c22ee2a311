"""`ls` as lines: aligned columns, and below them in words what no column can say."""

from __future__ import annotations

from typing import Any

import click

from ckptctl import figures, table

_FULL_WIDTH = 110
"""Columns that all of a checkpoint's take."""
_NUMBERS = frozenset({"STEP", "SIZE", "FILES", "HOT", "DURABLE", "AFTER"})

Row = dict[str, Any]
_COLOURS = {"committed": "green", "complete": "cyan", "writing": "yellow", "torn": "red", "lost": "red"}


def runs(found: list[Row], width: int | None) -> list[str]:
    if not found:
        return ["no runs yet: a run is a folder of the volume with checkpoints in it"]
    volumes = len({run["volume"] for run in found}) > 1
    rows = [
        (
            run["run"], *([run["volume"]] if volumes or width is None else []), str(run["checkpoints"]), str(run["committed"]),
            _newest(run), figures.size(run["bytes"]), figures.share(run["hot_bytes"], run["bytes"]),
            figures.share(run["durable_bytes"], run["bytes"]), _exposed(run),
        )
        for run in found
    ]  # fmt: skip
    names = ["RUN", "VOLUME", "CHECKPOINTS", "COMMITTED", "NEWEST", "SIZE", "HOT", "DURABLE", "EXPOSED"]
    head = names if volumes or width is None else [name for name in names if name != "VOLUME"]
    right = frozenset(head.index(name) for name in ("CHECKPOINTS", "COMMITTED", "SIZE", "HOT", "DURABLE"))
    return table.lines(head, rows, right)


def _newest(run: Row) -> str:
    """The newest restorable one; what is newer but not whole is said beside it."""
    newest, whole = run["newest_step"], run.get("newest_restorable")
    if newest is None:
        return "-"
    newer = f"{newest} {run['newest_state']}"
    if whole == newest:
        return newer
    return f"none ({newer})" if whole is None else f"{whole} ({newer})"


def _exposed(run: Row) -> str:
    exposure = run.get("exposure")
    if not exposure or not exposure["files"]:
        return "-"
    age = f", {figures.duration(exposure['oldest_s'])}" if exposure["oldest_s"] is not None else ""
    return f"{figures.size(exposure['bytes'])}{age}"


def checkpoints(found: list[Row], width: int | None) -> list[str]:
    head: tuple[str, ...] = (
        "STEP",
        "STATE",
        "SIZE",
        "FILES",
        "HOT",
        "DURABLE",
        "AFTER",
        "TIERS",
        "WRITTEN",
        "FRAMEWORK",
        "",
    )
    rows: list[tuple[str, ...]] = [
        (
            str(one["step"]), one["state"], figures.size(one["bytes"]), str(one["files"]),
            figures.share(one["hot_bytes"], one["bytes"]), figures.share(one["durable_bytes"], one["bytes"]),
            "-" if one.get("durable_after_s") is None else figures.duration(one["durable_after_s"]),
            "+".join(one["tiers"]) or "-", one["written_at"], one["framework"] or "-", _remark(one),
        )
        for one in found
    ]  # fmt: skip
    if width is not None and width < _FULL_WIDTH:
        head, rows = _narrow(head), [_narrow(row) for row in rows]
    right = frozenset(head.index(name) for name in head if name in _NUMBERS)
    lines = table.lines(head, rows, right, width=width)
    return [_coloured(line) for line in lines]


def _narrow(row: tuple[str, ...]) -> tuple[str, ...]:
    """Without how many files there are; how hot it is goes to the tiers; the time of day is exact enough."""
    step, state, size, _files, hot, durable, after, tiers, written, *rest = row
    if hot.endswith("%") and hot not in ("0%", "100%"):
        tiers += f" {hot}"
    return (step, state, size, durable, after, tiers, _short(written), *rest)


def _short(written: str) -> str:
    """`11-23 09:00` of `2026-11-23T09:00:00Z`; a head as it is."""
    return f"{written[5:10]} {written[11:16]}" if "T" in written[10:11] else written


def _remark(one: Row) -> str:
    """Why it is as it is, and why it stays."""
    remarks = ["pinned"] * one["pinned"] + ["skipped"] * one["skipped"] + ["superseded"] * one.get("superseded", False)
    remarks += [f"tagged {name}" for name in one.get("tags", ())]
    kept = [name for name in one.get("protected", ()) if name.startswith(("link:", "every"))]
    remarks += [f"kept for {name.removeprefix('link:')}" if name != "every" else "kept by keep_every" for name in kept]
    return ", ".join([*remarks, one["reason"]] if one["reason"] else remarks)


def _coloured(line: str) -> str:
    """The table is laid out before colours go in; click drops them where there is no terminal."""
    words = line.split(maxsplit=2)
    if len(words) < 2 or not words[0].isdecimal() or words[1] not in _COLOURS:
        return line
    return line.replace(f"  {words[1]}", f"  {click.style(words[1], fg=_COLOURS[words[1]])}", 1)
