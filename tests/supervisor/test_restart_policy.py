from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ckptd.supervisor.restarts import CALM_S, FIRST_S, LIMIT_S, Restarts


def test_delays_double_from_a_tenth_of_a_second_to_half_a_minute() -> None:
    restarts, delays = Restarts(), []
    for _ in range(11):
        restarts = restarts.died(0)
        delays.append(restarts.delay_s)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_a_calm_life_starts_the_delays_anew_but_not_the_count() -> None:
    restarts = Restarts(total=7, in_row=7, delay_s=6.4).died(CALM_S)
    assert restarts == Restarts(total=8, in_row=1, delay_s=FIRST_S)


@given(st.lists(st.floats(min_value=0, max_value=1e9), max_size=3000))
def test_delays_stay_within_their_bounds_and_every_death_is_counted(uptimes: list[float]) -> None:
    restarts = Restarts()
    for uptime in uptimes:
        restarts = restarts.died(uptime)
        assert FIRST_S <= restarts.delay_s <= LIMIT_S
    assert restarts.total == len(uptimes)
