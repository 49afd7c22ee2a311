"""Sizes and times as people write them: `64GiB`, `64G`, `25%`, `90s`, `1h30m`. Pure; raises ValueError."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGTP]?)(IB|B)?)", re.IGNORECASE)
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_TIME_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\s*")


@dataclass(frozen=True, slots=True)
class Percent:
    """A share of what the machine has; becomes bytes in `ckptd.tiers.budget`."""

    value: float
    """Above 0, at most 100."""

    def __str__(self) -> str:
        return f"{_plain(self.value)}%"


def parse_size(text: object) -> int:
    """Bytes of `64GiB` or `64G` (powers of 1024), `64GB` (powers of 1000), `4096B`, or a plain number of bytes."""
    if isinstance(text, int) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"a size cannot be negative: {text}")
        return text
    if not isinstance(text, str):
        raise ValueError(f'expected a size like "64GiB", got {_typed(text)}')  # noqa: TRY004  # pydantic reports ValueError
    if text.strip().startswith("-"):
        raise ValueError(f"a size cannot be negative: {text!r}")
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f'expected a size like "64GiB", "500MB" or a number of bytes, got {text!r}')
    number, prefix, suffix = found[1], found[2].upper(), (found[3] or "").upper()
    base = 1000 if suffix == "B" and prefix else 1024
    if suffix == "IB" and not prefix:
        raise ValueError(f'expected a size like "64GiB", got {text!r}')
    return int(Decimal(number) * base ** _POWERS[prefix])


def format_size(size: int) -> str:
    """The shortest exact spelling; `parse_size` reads it back to the same number."""
    for unit in "PTGMK":
        scale = 1024 ** _POWERS[unit]
        if size and size % scale == 0:
            return f"{size // scale}{unit}iB"
    return f"{size}B"


def parse_budget(text: object) -> int | Percent:
    """A size, or a percentage of what the machine has."""
    if isinstance(text, Percent):
        return text
    if isinstance(text, str) and text.strip().endswith("%"):
        found = _PERCENT.fullmatch(text.strip())
        value = float(found[1]) if found else 0.0
        if not 0 < value <= 100:
            raise ValueError(f"a percentage lies above 0% and at most at 100%, got {text!r}")
        return Percent(value)
    return parse_size(text)


def bytes_of(budget: int | Percent, whole: int) -> int:
    """Of a size, or a percentage of `whole`."""
    return int(whole * budget.value / 100) if isinstance(budget, Percent) else budget


def parse_time(text: object) -> float:
    """Seconds of `500ms`, `90s`, `5m`, `2h`, `1d`, `1h30m` or a plain number of seconds."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        if not math.isfinite(text) or text < 0:
            raise ValueError(f"a time is a finite number of seconds, zero or more: {text}")
        return float(text)
    if not isinstance(text, str):
        raise ValueError(f'expected a time like "90s", got {_typed(text)}')  # noqa: TRY004  # pydantic reports ValueError
    cleaned = text.strip().lower()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", cleaned):
        return float(cleaned)
    if cleaned.startswith("-"):
        raise ValueError(f"a time cannot be negative: {text!r}")
    pieces = list(_TIME_PIECE.finditer(cleaned))
    if not pieces or "".join(piece[0] for piece in pieces) != cleaned:
        raise ValueError(f'expected a time like "90s", "5m" or "1h30m", got {text!r}')
    return float(sum((Decimal(piece[1]) * _SECONDS[piece[2]] for piece in pieces), Decimal(0)))


def format_time(seconds: float) -> str:
    """The shortest exact spelling; `parse_time` reads it back to the same number."""
    for unit in "dhm":
        scale = float(_SECONDS[unit])
        if seconds and seconds % scale == 0 and seconds < 2**53:
            return f"{int(seconds // scale)}{unit}"
    return f"{_plain(seconds)}s"


def _plain(value: float) -> str:
    """Without exponent and without digits lost: 0.1, 1e-07 as 0.0000001, 2.0 as 2."""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _typed(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"
