"""`report` drawn with rich: what was measured, beside what is estimated, each called by its name."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ckptctl import figures

Account = dict[str, Any]
Spread = dict[str, Any] | None
_NOT_MEASURED = "-"


def shown(found: Account) -> RenderableType:
    parts: list[RenderableType] = [_title(found)]
    if found["saves"] or found["resume"]:
        parts += ["", _times(found)]
    parts += ["", *_conclusions(found)]
    return Group(*parts)


def _title(found: Account) -> Text:
    text = Text.assemble((found["run"], "bold"), f" in volume {found['volume']}, as {found['node']} saw it")
    if not found["saves"]:
        return text.append("\nno save was seen on this node")
    text.append(f"\n{found['saves']} saves, {figures.size(found['bytes'])}")
    if found["copied_bytes"]:
        text.append(f" ({figures.size(found['copied_bytes'])} copied inside the remote)")
    text.append(f", from {found['since']} to {found['until']}")
    if found["every_s"] is not None:
        text.append(f", one every {figures.duration(found['every_s'])}")
    return text


def _times(found: Account) -> Table:
    alone = found["remote_alone"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    for name in ("median", "95%", "total"):
        table.add_column(name, justify="right")
    if alone:
        for name in ("remote alone: median", "95%", "total"):
            table.add_column(name, justify="right", style="dim")
    for name, key in (("save (the job waits)", "save"), ("durable after it", "durable"), ("resume", "resume")):
        cells = _cells(found[key])
        if alone:
            cells += ["at once", "", ""] if key == "durable" else _cells(alone[key])
        table.add_row(name, *cells)
    return table


def _cells(spread: Spread) -> list[str]:
    if spread is None:
        return [_NOT_MEASURED] * 3
    return [figures.duration(spread[key]) for key in ("median_s", "p95_s", "total_s")]


def _conclusions(found: Account) -> list[Text]:
    alone, lines = found["remote_alone"], list[Text]()
    if found["resume"]:
        lines.append(Text(f"{found['resumes_hot']} of {found['resume']['count']} resumes found everything hot"))
    if alone and alone["save"]:
        line = Text.assemble(
            "saved  ", (figures.duration(alone["saved_s"]), "bold green"), " that the job did not wait in saves"
        )
        if alone["gpu_hours"] is not None:
            line.append(f": {alone['gpu_hours']:.1f} GPU-hours on {found['gpus']} GPUs")
        lines.append(line)
    if (advice := found["interval"]) is not None:
        lines.append(_advice(found, advice))
    lines.append(_source(alone))
    return lines


def _advice(found: Account, advice: dict[str, Any]) -> Text:
    line = Text.assemble(
        "save every  ", (figures.duration(advice["daly_s"]), "bold"),
        f" by Daly's rule (Young: {figures.duration(advice['young_s'])}), where a save costs {figures.duration(advice['cost_s'])}"
        f" and the job fails once in {figures.duration(found['mtbf_s'])} (--mtbf)",
    )  # fmt: skip
    other = found["remote_alone"] and found["remote_alone"]["interval"]
    if other:
        line.append(f"; with the remote alone every {figures.duration(other['daly_s'])}")
    return line


def _source(alone: Account | None) -> Text:
    if alone is None:
        text = "The remote was not probed yet ([probe] in the configuration), so there is nothing to compare with."
    else:
        text = (
            f"The remote alone is an estimate: {figures.size(alone['probe_bytes'])} written at"
            f" {figures.speed(alone['write_bytes_per_s'])} and read at {figures.speed(alone['read_bytes_per_s'])} in one stream,"
            f" on {alone['probed_at']}."
        )
    return Text(text, style="dim")
