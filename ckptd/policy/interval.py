"""How often to save: the interval that loses the least time to saves and to work that is done again. Pure.

J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974: sqrt(2 C M).
J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, FGCS 22(3), 2006, equation 37.
C is what a save costs the job, M the mean time between its failures; the interval is the time of work between two saves.
"""

from __future__ import annotations

from math import sqrt

DEFAULT_MTBF_S = 86400.0
"""A day: the order of what is reported of jobs on hundreds of GPUs; any other is given by the user."""


def young(cost_s: float, mtbf_s: float) -> float:
    return sqrt(2.0 * cost_s * mtbf_s)


def daly(cost_s: float, mtbf_s: float) -> float:
    """Where a save takes longer than two failures are apart, the interval is the time between failures."""
    if cost_s >= 2.0 * mtbf_s:
        return mtbf_s
    ratio = cost_s / (2.0 * mtbf_s)
    return young(cost_s, mtbf_s) * (1.0 + sqrt(ratio) / 3.0 + ratio / 9.0) - cost_s
