"""Plain aligned columns: fast to print, easy to grep, no library."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence

INDENT = "    "


def lines(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset(), *, width: int | None = None
) -> list[str]:
    """The columns numbered in `right` (from 0) are aligned there; the last column is not padded.

    `width`: of a terminal. Where a line would be wider, its last column goes on lines of its own, indented and wrapped
    between words; nothing is cut, because it may be a path. None: a line a row, however long.
    """
    table = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(_width(row[n]) for row in table) for n in range(len(head))]
    found: list[str] = []
    for row in table:
        line = _line(row, widths, right)
        if width is None or _width(line) <= width or not row[-1]:
            found.append(line)
        else:
            found.append(_line((*row[:-1], ""), widths, right))
            found += textwrap.wrap(
                row[-1], max(width, 20), initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False,
                break_on_hyphens=False,
            )  # fmt: skip
    return found


def _line(row: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    return "  ".join(_cell(text, widths[n], n in right) for n, text in enumerate(row)).rstrip()


def _cell(text: str, width: int, right: bool) -> str:
    gap = " " * (width - _width(text))
    return gap + text if right else text + gap


def _width(text: str) -> int:
    """Terminal columns: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
