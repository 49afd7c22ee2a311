"""What the scrub reads next."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ckptd.domain.model import Place
from ckptd.policy.scrub import Check, Item, Spot, due, last_good

DAY = 86400.0
ITEM = Item(Spot("v", Place.RAM, "run-1/a"), "run-1", 1, size=10, crc=7, since=0.0)


def named(path: str, **changed: object) -> Item:
    return replace(ITEM, spot=replace(ITEM.spot, path=path), **changed)  # type: ignore[arg-type]


def test_a_copy_is_due_a_period_after_it_came_to_be() -> None:
    assert due([ITEM], {}, DAY, now=DAY - 1) == ([], DAY)
    (portion,), following = due([ITEM], {}, DAY, now=DAY)
    assert (portion.items, portion.size, following) == ((ITEM,), 10, None)


def test_a_check_of_this_content_puts_it_off_one_of_another_does_not() -> None:
    assert due([ITEM], {ITEM.spot: Check(7, 5.0)}, DAY, now=DAY + 1)[0] == []
    assert due([ITEM], {ITEM.spot: Check(8, 5.0)}, DAY, now=DAY + 1)[0] != []


def test_what_waits_longest_comes_first_a_checkpoint_and_a_place_at_a_time() -> None:
    old, young = named("run-1/b", step=2, since=10.0), named("run-1/c", step=3, since=20.0)
    beside = named("run-1/d", step=2, since=30.0)
    far = replace(old, spot=replace(old.spot, place=Place.REMOTE), since=25.0)
    portions, _ = due([far, young, beside, old], {}, DAY, now=2 * DAY)
    assert [(one.step, one.place, {item.spot.path for item in one.items}) for one in portions] == [
        (2, Place.RAM, {"run-1/b", "run-1/d"}),
        (3, Place.RAM, {"run-1/c"}),
        (2, Place.REMOTE, {"run-1/b"}),
    ]


def test_a_clock_that_was_set_back_puts_nothing_off_for_longer_than_a_period() -> None:
    assert due([ITEM], {ITEM.spot: Check(7, 1000 * DAY)}, DAY, now=DAY) == ([], 2 * DAY)


TIMES = st.floats(0, 1e6)
ITEMS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3), TIMES), max_size=30, unique_by=lambda one: one[0])


@given(ITEMS, st.dictionaries(st.integers(0, 50), TIMES), st.floats(0, 1e6), TIMES)
def test_each_copy_is_due_exactly_when_its_period_is_over(
    made: list[tuple[int, int, float]], checked: dict[int, float], every: float, now: float
) -> None:
    items = [named(f"run-1/{number}", step=step, since=since) for number, step, since in made]
    checks = {named(f"run-1/{number}").spot: Check(7, at) for number, at in checked.items()}
    portions, following = due(items, checks, every, now)
    chosen = [item for one in portions for item in one.items]
    assert len(chosen) == len(set(chosen))
    for item in items:
        assert (item in chosen) == (min(now, last_good(item, checks)) + every <= now)
    assert following is None or following > now
    assert [one.good_at for one in portions] == sorted(one.good_at for one in portions)
