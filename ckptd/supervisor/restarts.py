"""When to start a dead worker again. Pure: told of deaths, answers with delays."""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST_S = 0.1
LIMIT_S = 30.0
CALM_S = 60.0
"""A worker that lived this long died of something new: the next delay is the first one again."""


@dataclass(frozen=True, slots=True)
class Restarts:
    total: int = 0
    in_row: int = 0
    """Deaths without a calm life between them."""
    delay_s: float = 0.0
    """How long to wait before the next start."""

    def died(self, uptime_s: float) -> Restarts:
        in_row = 1 if uptime_s >= CALM_S else self.in_row + 1
        # The exponent is capped before it is used: 2**1100 is no float.
        delay = min(LIMIT_S, FIRST_S * 2 ** min(in_row - 1, 20))
        return replace(self, total=self.total + 1, in_row=in_row, delay_s=delay)
