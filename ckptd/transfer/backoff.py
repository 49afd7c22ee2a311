"""How long to wait before another try. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """`tries` in all; the defaults give up after about 25 s of waiting, and the planner asks again later."""

    tries: int = 7
    first_s: float = 0.5
    most_s: float = 10.0
    longest_asked_s: float = 30.0
    """A store's `Retry-After` is obeyed up to this."""

    def wait(self, failures: int, chance: float, retry_after: float | None) -> float:
        """Seconds to sleep after failure number `failures` (from 1); `chance` in [0, 1) spreads a crowd of failures."""
        doubled = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30))
        wait = doubled * (0.5 + chance)
        return max(wait, min(retry_after, self.longest_asked_s)) if retry_after else wait
