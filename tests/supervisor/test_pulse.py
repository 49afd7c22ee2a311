from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ckptd.supervisor.pulse import LIMIT_S, Pulse, limit_of


def test_silence_beyond_the_limit_is_a_hang_and_a_beat_ends_it() -> None:
    pulse = Pulse(60, seen=0, serves=True)
    for now in range(10, 60, 10):
        pulse.look(now, beat=False)
        assert not pulse.hung
    pulse.look(60, beat=False)
    assert pulse.hung
    pulse.look(61, beat=True)
    assert not pulse.hung


def test_a_worker_that_does_not_serve_yet_has_more_time() -> None:
    pulse = Pulse(60, seen=0)
    for now in range(10, 600, 10):
        pulse.look(now, beat=False)
        assert not pulse.hung
    pulse.look(600, beat=False)
    assert pulse.hung


def test_time_in_which_the_supervisor_was_not_awake_is_no_silence() -> None:
    pulse = Pulse(60, seen=0, serves=True)
    pulse.look(100_000, beat=False)
    assert pulse.silent_s == pulse.every_s
    assert not pulse.hung


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=100), st.floats(0.1, 1e4))
def test_it_is_never_hung_with_a_beat_among_the_last_five_looks(
    looks: list[tuple[float, bool]], limit_s: float
) -> None:
    pulse, now = Pulse(limit_s, seen=0, serves=True), 0.0
    for at, (waited, beat) in enumerate(looks):
        now += waited
        pulse.look(now, beat=beat)
        if any(heard for _, heard in looks[max(0, at - 4) : at + 1]):
            assert not pulse.hung


def test_the_limit_is_a_third_of_the_service_managers_watchdog() -> None:
    assert limit_of({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "7"}, 7) == 60
    assert limit_of({"WATCHDOG_USEC": "9000000"}, 7) == 3
    for environ in ({}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "8"}):
        assert limit_of(environ, 7) == LIMIT_S
