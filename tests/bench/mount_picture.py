"""The result of bench_mount.py as a picture: a bar for each ratio, with a mark where its aim is. SVG by hand, no library."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

LEFT, WIDTH, RIGHT = 330, 420, 150
"""Pixels of the labels, the bars, and the figures."""
LINE, TOP, BOTTOM = 24, 58, 34
LOWEST = 0.5
"""Ratio at the left end. The scale is logarithmic: 2 is as far right of 1 as 1/2 is left of it."""
GRID = (0.5, 1, 2, 5, 10, 20, 50, 100, 200)
MET, MISSED, INK, PALE = "#2c7fb8", "#d9a441", "#24292f", "#d0d7de"


def draw(rows: list[dict[str, Any]]) -> str:
    """`rows`: as in the JSON of bench_mount.py."""
    ratios = [row for row in rows if row["peer"]]
    others = [row for row in rows if not row["peer"]]
    highest = next((line for line in GRID if line >= max((row["ratio"] for row in ratios), default=2)), GRID[-1])
    height = TOP + LINE * (len(ratios) + len(others)) + BOTTOM
    width = LEFT + WIDTH + RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(12, 22, "A mounted volume: how many times as fast as …", size=15),
        _text(
            12,
            40,
            "bar: measured (blue: aim met, yellow: missed); stroke: the aim; logarithmic scale",
            colour="#57606a",
        ),
        *_grid(highest, TOP + LINE * len(ratios)),
    ]
    for index, row in enumerate(ratios):
        parts += _bar(row, TOP + LINE * index, highest)
    for index, row in enumerate(others):
        y = TOP + LINE * (len(ratios) + index) + 38
        verdict = "" if row["met"] else ", missed"
        parts.append(
            _text(12, y - 12, f"{row['work']}: {row['ours']:.1f} ms (aim: at most {row['aim']:.0f} ms{verdict})")
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(highest: float, bottom: int) -> Iterator[str]:
    for line in GRID:
        if line <= highest:
            x, colour = _x(line, highest), INK if line == 1 else PALE
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 2}" y2="{bottom}" stroke="{colour}"/>'
            yield _text(x, bottom + 14, f"{line:g}×", anchor="middle", colour="#57606a")


def _bar(row: dict[str, Any], y: int, highest: float) -> Iterator[str]:
    end, aim = _x(row["ratio"], highest), _x(row["aim"], highest)
    yield _text(LEFT - 8, y + 15, f"{row['work']}: {row['peer']}", anchor="end")
    colour = MET if row["met"] else MISSED
    yield f'<rect x="{LEFT}" y="{y + 4}" width="{max(end - LEFT, 1):.1f}" height="{LINE - 9}" fill="{colour}"/>'
    yield f'<line x1="{aim:.1f}" x2="{aim:.1f}" y1="{y + 1}" y2="{y + LINE - 2}" stroke="{INK}" stroke-width="3"/>'
    yield _text(LEFT + WIDTH + 10, y + 15, f"{row['ratio']:.2f}× (aim {row['aim']:g}×)")


def _x(ratio: float, highest: float) -> float:
    share = math.log(min(max(ratio, LOWEST), highest) / LOWEST) / math.log(highest / LOWEST)
    return LEFT + WIDTH * share


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, colour: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
