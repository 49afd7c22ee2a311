"""Plain aligned columns: fast to print, easy to grep, no library."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def lines(head: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """The columns numbered in `right` (from 0) are aligned there; the last column is not padded."""
    table = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(_width(row[n]) for row in table) for n in range(len(head))]
    return ["  ".join(_cell(text, widths[n], n in right) for n, text in enumerate(row)).rstrip() for row in table]


def _cell(text: str, width: int, right: bool) -> str:
    gap = " " * (width - _width(text))
    return gap + text if right else text + gap


def _width(text: str) -> int:
    """Terminal columns: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
