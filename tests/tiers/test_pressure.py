"""The RAM tier gives way under memory pressure and takes its time to come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ckptd.tiers.pressure import CALM_S, FLOOR, SETTLE_S, STEP_DOWN, Psi, Shrinkage, parse_psi, read_psi, shrink

HIGH, CALM, BETWEEN = Psi(40.0, 0.0), Psi(0.0, 0.0), Psi(5.0, 0.0)
TEXT = """some avg10=12.50 avg60=3.00 avg300=0.00 total=1
full avg10=1.25 avg60=0.00 avg300=0.00 total=1
"""


def test_the_kernel_s_file_is_read(tmp_path):
    (tmp_path / "memory").write_text(TEXT)
    assert read_psi(str(tmp_path / "memory")) == Psi(12.5, 1.25)


def test_a_kernel_that_does_not_tell_is_no_error(tmp_path):
    assert read_psi(str(tmp_path / "nothing")) is None
    assert parse_psi("") is None


def test_without_psi_nothing_is_shrunk():
    assert shrink(Shrinkage(), None, 10.0).factor == 1.0
    assert shrink(Shrinkage(0.5, 0.0), None, 10.0).factor == 1.0


def test_pressure_shrinks_in_steps_that_give_demotion_time_to_work():
    one = shrink(Shrinkage(), HIGH, 100.0)
    assert one.factor == STEP_DOWN
    assert shrink(one, HIGH, 100.0 + SETTLE_S / 2) == one
    assert shrink(one, HIGH, 100.0 + SETTLE_S).factor == STEP_DOWN**2


def test_all_tasks_stalling_counts_sooner_than_some():
    assert shrink(Shrinkage(), Psi(6.0, 6.0), 0.0).factor < 1.0
    assert shrink(Shrinkage(), Psi(6.0, 0.0), 0.0).factor == 1.0


def test_it_stops_at_the_floor():
    state = Shrinkage()
    for second in range(200):
        state = shrink(state, HIGH, float(second))
    assert state.factor == FLOOR
    assert state.apply(1000) == 250


def test_calm_restores_slowly_and_neither_high_nor_calm_holds():
    low = Shrinkage(0.5, 0.0)
    assert shrink(low, CALM, CALM_S - 1) == low
    assert shrink(low, BETWEEN, 10_000.0) == low
    up = shrink(low, CALM, CALM_S)
    assert 0.5 < up.factor < 0.6
    for step in range(2, 100):
        up = shrink(up, CALM, CALM_S * step)
    assert up.factor == 1.0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))))
def test_the_factor_stays_within_its_bounds(course):
    state, now = Shrinkage(), 0.0
    for some, full, seconds in course:
        now += seconds
        before, state = state, shrink(state, Psi(some, full), now)
        assert FLOOR <= state.factor <= 1.0
        assert state.factor >= before.factor * STEP_DOWN - 1e-9
