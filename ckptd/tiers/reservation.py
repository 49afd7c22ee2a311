"""How much room the saves to come will want. Pure; the planner keeps it free (`TierView.reserve`)."""

from __future__ import annotations

from collections.abc import Sequence

from ckptd.domain.model import RESTORABLE, CheckpointState
from ckptd.policy.snapshot import UnitView

ACTIVE_S = 1800.0
"""A run that wrote nothing for this long is not expected to save soon: its share is given back."""


def expected_bytes(units: Sequence[UnitView], now: float, *, active_s: float = ACTIVE_S) -> int:
    """For each active run what its newest complete checkpoint weighs, less what of the next one is there already."""
    runs: dict[tuple[str, str], list[UnitView]] = {}
    for unit in units:
        if unit.step is not None:
            runs.setdefault((unit.volume, unit.run), []).append(unit)
    return sum(_expected(run, now, active_s) for run in runs.values())


def _expected(run: Sequence[UnitView], now: float, active_s: float) -> int:
    if max((unit.closed_at for unit in run), default=0.0) < now - active_s:
        return 0
    newest = max((unit for unit in run if unit.state in RESTORABLE), key=_step, default=None)
    if newest is None:
        return 0
    coming = sum(unit.bytes for unit in run if unit.state is CheckpointState.WRITING and _step(unit) > _step(newest))
    return max(0, newest.bytes - coming)


def _step(unit: UnitView) -> int:
    return -1 if unit.step is None else unit.step
