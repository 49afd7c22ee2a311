"""A run's report from measurements of which every answer is known."""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptd.domain.history import Probe, Resume, Save
from ckptd.domain.model import Place
from ckptd.policy.accounting import account, spread
from ckptd.policy.interval import DEFAULT_MTBF_S, daly, young

GIB = 1 << 30
PROBE = Probe("ckpt", 500.0, 64 << 20, write_s=0.64, read_s=0.32)
"""100 MiB/s there, 200 MiB/s back."""


def saved(step: int, took: float | None, size: int = GIB, durable_after: float | None = 20.0) -> Save:
    """One that ended at 1000 s times its step."""
    ended = 1000.0 * step
    began = None if took is None else ended - took
    return Save(
        "ckpt", "run", step, began, ended, size, None if durable_after is None else ended + durable_after, size // 4
    )


def resumed(took: float, size: int, fetched: int) -> Resume:
    return Resume("ckpt", "run", 1, 0.0, took, size, fetched, Place.REMOTE if fetched else Place.RAM, "prefetch")


def test_a_run_beside_the_remote_alone() -> None:
    saves = [saved(1, 1.0), saved(2, 2.0), saved(3, 3.0), saved(4, None), saved(5, 2.0, durable_after=None)]
    resumes = [resumed(4.0, GIB, GIB), resumed(0.0, GIB, 0)]
    found = account("ckpt", "run", "n", saves, resumes, PROBE, mtbf_s=86400.0, gpus=64)
    assert (found.saves, found.bytes, found.copied_bytes, found.every_s) == (5, 5 * GIB, 5 * GIB // 4, 1000.0)
    assert (found.since, found.until) == (999.0, 5000.0)
    assert found.save is not None
    assert (found.save.count, found.save.median_s, found.save.p95_s, found.save.total_s) == (4, 2.0, 3.0, 8.0)
    assert found.durable is not None
    assert (found.durable.count, found.durable.median_s) == (4, 20.0)
    assert found.resume is not None
    assert (found.resume.total_s, found.resumes_hot) == (4.0, 1)
    alone = found.remote_alone
    assert alone is not None
    assert alone.save is not None
    assert alone.resume is not None
    assert alone.save.median_s == pytest.approx(10.24), "1 GiB at 100 MiB/s"
    assert alone.resume.total_s == pytest.approx(2 * 5.12)
    assert alone.saved_s == pytest.approx(4 * 10.24 - 8.0), "of the saves whose beginning was seen"
    assert alone.gpu_hours == pytest.approx(alone.saved_s * 64 / 3600)
    assert found.interval is not None
    assert alone.interval is not None
    assert found.interval.young_s == pytest.approx(sqrt(2 * 2.0 * 86400))
    assert alone.interval.young_s == pytest.approx(sqrt(2 * 10.24 * 86400))


def test_without_a_probe_only_what_was_measured_is_said() -> None:
    found = account("ckpt", "run", "n", [saved(1, 1.0)], [], None, mtbf_s=DEFAULT_MTBF_S)
    assert found.remote_alone is None
    assert found.every_s is None
    assert found.save is not None
    assert found.interval is not None


def test_a_run_of_which_nothing_was_seen_says_so() -> None:
    found = account("ckpt", "run", "n", [], [], PROBE, mtbf_s=DEFAULT_MTBF_S, gpus=8)
    assert (found.saves, found.save, found.durable, found.resume, found.interval, found.since) == (0, *[None] * 5)
    assert found.remote_alone is not None
    assert (found.remote_alone.save, found.remote_alone.saved_s, found.remote_alone.gpu_hours) == (None, 0.0, 0.0)


def test_a_remote_that_is_faster_than_the_job_saves_nothing() -> None:
    """The job has to make its bytes wherever they go."""
    found = account("ckpt", "run", "n", [saved(1, 60.0)], [], PROBE, mtbf_s=DEFAULT_MTBF_S)
    assert found.remote_alone is not None
    assert found.remote_alone.save is not None
    assert (found.remote_alone.save.median_s, found.remote_alone.saved_s) == (60.0, 0.0)


@pytest.mark.parametrize(("count", "rank"), [(1, 1), (2, 2), (19, 19), (20, 19), (100, 95)])
def test_the_95th_percentile_is_one_that_was_measured(count: int, rank: int) -> None:
    found = spread([float(number) for number in range(count, 0, -1)])
    assert found is not None
    assert found.p95_s == rank


def test_young_and_daly_of_known_values() -> None:
    """A save of 5 minutes, a failure a day: 2 h by Young; Daly's terms add 2.8 % and take the save itself away."""
    assert young(300.0, 86400.0) == pytest.approx(7200.0)
    ratio = 300.0 / (2 * 86400.0)
    assert daly(300.0, 86400.0) == pytest.approx(7200.0 * (1 + sqrt(ratio) / 3 + ratio / 9) - 300.0)
    assert daly(300.0, 86400.0) == pytest.approx(7001.4, abs=0.1)
    assert daly(7200.0, 3600.0) == 3600.0, "a save as long as two times between failures"


@given(cost=st.floats(0.001, 1e5), mtbf=st.floats(1.0, 1e8))
def test_dalys_interval_loses_no_more_than_youngs(cost: float, mtbf: float) -> None:
    """By the model that both approximate: failures come at random, and undo the interval of work and its save."""

    def lost(interval: float) -> float:
        from math import expm1

        return expm1((interval + cost) / mtbf) / interval

    if cost < mtbf / 2:
        assert lost(daly(cost, mtbf)) <= lost(young(cost, mtbf)) * (1 + 1e-9)
