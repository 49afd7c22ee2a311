"""Sizes and times: every spelling of the documentation, and back."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptd.settings.quantities import Percent, format_size, format_time, parse_budget, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64GiB", 64 << 30), ("64G", 64 << 30), ("64g", 64 << 30), ("2TiB", 2 << 40), ("1.5 GiB", 3 << 29),
        ("500MB", 500_000_000), ("1kB", 1000), ("4096", 4096), ("4096B", 4096), ("0", 0), (4096, 4096),
    ],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1", "-5GiB", -1, "1.2.3G", "64 apples", "64iB", "1e9", None, 1.5, True, "٣GiB"]
)
def test_what_is_not_a_size(text):
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("2.5", 2.5),
        (3, 3),
        (0, 0),
    ],
)
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", -1, "5x", "1h 30q", float("nan"), float("inf"), None, True, [1]])
def test_what_is_not_a_time(text):
    with pytest.raises(ValueError, match="time"):
        parse_time(text)


@pytest.mark.parametrize("text", ["0%", "101%", "-5%", "%", "x%"])
def test_what_is_not_a_percentage(text):
    with pytest.raises(ValueError, match="percentage"):
        parse_budget(text)


def test_a_budget_is_a_share_or_a_size():
    assert parse_budget("12.5%") == Percent(12.5)
    assert parse_budget("1GiB") == 1 << 30


@given(st.integers(0, 1 << 70))
def test_sizes_survive_being_written_out(size):
    assert parse_size(format_size(size)) == size


@given(st.floats(0, 1e12))
def test_times_survive_being_written_out(seconds):
    assert parse_time(format_time(seconds)) == seconds


@given(st.floats(0, 100, exclude_min=True))
def test_percentages_survive_being_written_out(value):
    assert parse_budget(str(Percent(value))) == Percent(value)


@given(st.text())
def test_no_text_breaks_the_parsers(text):
    for parse in (parse_size, parse_time, parse_budget):
        with contextlib.suppress(ValueError):
            assert parse(text) is not None
