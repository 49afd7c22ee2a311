"""Whether the worker still answers: its event loop sends a beat now and then, and one that is silent for too long is hung.

Pure: told of the time and of beats. What counts is silence while the supervisor itself was awake: a machine that was suspended,
or a control group that was frozen, has silenced both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LIMIT_S = 60.0
"""Where no service manager says otherwise. A loop that is busy is late by fractions of a second (docs/architecture.md)."""
_BEATS = 6
"""Within the limit: one that comes late is no reason."""
_STARTING = 10
"""Before it serves a worker may be silent for so many limits: what it finds in the tiers may be much."""


@dataclass(slots=True)
class Pulse:
    """Of one worker. `limit_s`: silence after which it is hung, once it serves."""

    limit_s: float
    seen: float
    """When the supervisor last looked, by its clock."""
    serves: bool = False
    silent_s: float = 0.0

    @property
    def every_s(self) -> float:
        """Between two beats, and at most between two looks."""
        return self.limit_s / _BEATS

    @property
    def hung(self) -> bool:
        return self.silent_s >= self.limit_s * (1 if self.serves else _STARTING)

    def look(self, now: float, *, beat: bool) -> None:
        """A look that comes much later than it should counts as one that came in time."""
        self.silent_s = 0.0 if beat else self.silent_s + min(now - self.seen, self.every_s)
        self.seen = now


def limit_of(environ: Mapping[str, str], pid: int) -> float:
    """A third of systemd's WatchdogSec=, so that systemd has to act only where the supervisor itself hangs
    (sd_watchdog_enabled(3)); else LIMIT_S.
    """
    text = environ.get("WATCHDOG_USEC", "")
    if text.isdecimal() and int(text) and environ.get("WATCHDOG_PID") in {None, "", str(pid)}:
        return int(text) / 1_000_000 / 3
    return LIMIT_S
