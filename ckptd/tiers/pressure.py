"""The RAM tier gives way before the kernel has to kill: memory pressure (PSI) shrinks its budget, calm restores it.

https://docs.kernel.org/accounting/psi.html: `some` is the share of time in which at least one task waited for memory,
`full` in which all of them did; `avg10` over the last ten seconds, in percent.
"""

from __future__ import annotations

from dataclasses import dataclass

PSI_FILE = "/proc/pressure/memory"

SOME_HIGH = 10.0
FULL_HIGH = 5.0
"""Percent; well below the 60 at which systemd-oomd begins to kill (oomd.conf(5), DefaultMemoryPressureLimit)."""
SOME_CALM = 1.0
STEP_DOWN = 0.75
STEP_UP = 0.05
FLOOR = 0.25
SETTLE_S = 5.0
"""Between two steps down: demotion takes a moment, and the average needs one to show it."""
CALM_S = 30.0
"""Between two steps up: from the floor back to the whole budget takes seven and a half minutes."""


@dataclass(frozen=True, slots=True)
class Psi:
    some_avg10: float
    full_avg10: float


@dataclass(frozen=True, slots=True)
class Shrinkage:
    factor: float = 1.0
    """Of the configured budget, FLOOR to 1."""
    changed_at: float = float("-inf")
    """By a monotonic clock."""

    def apply(self, budget: int) -> int:
        return int(budget * self.factor)


def read_psi(path: str = PSI_FILE) -> Psi | None:
    """None where the kernel does not tell (no CONFIG_PSI, `psi=0`, a container that hides it)."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read()
    except OSError:
        return None
    return parse_psi(text)


def parse_psi(text: str) -> Psi | None:
    found: dict[str, float] = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields if "=" in field)
        if "avg10" in values:
            found[kind] = float(values["avg10"])
    return Psi(found["some"], found.get("full", 0.0)) if "some" in found else None


def shrink(current: Shrinkage, psi: Psi | None, now: float) -> Shrinkage:
    """The next state; call it every second or so with a monotonic `now`. Without PSI nothing is ever shrunk."""
    if psi is None:
        return current if current.factor == 1.0 else Shrinkage(1.0, now)
    since = now - current.changed_at
    if psi.some_avg10 >= SOME_HIGH or psi.full_avg10 >= FULL_HIGH:
        if since < SETTLE_S or current.factor <= FLOOR:
            return current
        return Shrinkage(max(FLOOR, current.factor * STEP_DOWN), now)
    if psi.some_avg10 < SOME_CALM and current.factor < 1.0 and since >= CALM_S:
        return Shrinkage(min(1.0, current.factor + STEP_UP), now)
    return current
