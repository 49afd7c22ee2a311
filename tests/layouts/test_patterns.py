"""Patterns of the configuration come before the built-in rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptd.domain.model import CheckpointState as State
from ckptd.layouts import Member, Pattern, configure, judge, locate, names_of
from ckptd.layouts.patterns import pattern_complaint


@pytest.fixture(autouse=True)
def built_in_again() -> Iterator[None]:
    yield
    configure([])


SNAP = Pattern(
    "snap", "snapshots/snap_{step}/**", marker="ok.txt", requires=("*.w", "opt/*"), temporary=("*.wip", "new-*")
)
FLAT = Pattern("flat", "weights-{step}.dat", marker="weights-{step}.end")
DEEP = Pattern("deep", "**/state_{step}x/*.bin")


@pytest.mark.parametrize(
    ("pattern", "path", "run", "step"),
    [
        (SNAP, "r/snapshots/snap_12/a.w", "r", 12),
        (SNAP, "r/snapshots/snap_12/opt/deep/x", "r", 12),
        (SNAP, "r/snapshots/snap_12.wip/a.w", "r", 12),
        (SNAP, "r/snapshots/new-snap_12/a.w", "r", 12),
        (SNAP, "r/snapshots/snap_x/a.w", "r", None),
        (SNAP, "r/other/snap_12/a.w", "r", None),
        (SNAP, "r/snapshots/snap_12", "r", None),
        (SNAP, "r/checkpoint-3/x.bin", "r", 3),
        (FLAT, "r/weights-7.dat", "r", 7),
        (FLAT, "r/weights-7.end", "r", 7),
        (FLAT, "weights-7.dat", ".", 7),
        (FLAT, "r/sub/weights-7.dat", "r", None),
        (DEEP, "r/state_5x/a.bin", "r", 5),
        (DEEP, "r/a/b/state_5x/a.bin", "r", 5),
        (DEEP, "r/a/state_5x/b/a.bin", "r", None),
        (Pattern("top", "s{step}/**"), "s5/a", ".", 5),
        (Pattern("top", "s{step}/**"), "run/s5/a", "run", 5),
        (Pattern("dots", "a+b.{step}/*"), "r/a+b.9/x", "r", 9),
        (Pattern("dots", "a+b.{step}/*"), "r/aab.9/x", "r", None),
        (Pattern("long", "v{step}/*"), f"r/v{'9' * 18}/x", "r", 10**18 - 1),
        (Pattern("long", "v{step}/*"), f"r/v{'9' * 19}/x", "r", None),
        (Pattern("ours", "checkpoint-{step}-of-run/*"), "r/checkpoint-4-of-run/x", "r", 4),
        (Pattern("ünï", "schritt_{step}_ü/**"), "r/schritt_4_ü/x", "r", 4),
    ],
)
def test_which_step_a_path_belongs_to(pattern: Pattern, path: str, run: str, step: int | None) -> None:
    configure([pattern])
    found = locate(path)
    assert found.step == step
    assert found.run == run or step is None


def test_the_first_pattern_that_fits_counts() -> None:
    configure([Pattern("one", "a_{step}/**"), Pattern("two", "a_1{step}/**")])
    assert locate("r/a_12/x").step == 12
    configure([Pattern("two", "a_1{step}/**"), Pattern("one", "a_{step}/**")])
    assert locate("r/a_12/x").step == 2


def test_configuring_forgets_what_was_known() -> None:
    assert locate("r/snapshots/snap_12/a.w").step is None
    configure([SNAP])
    assert locate("r/snapshots/snap_12/a.w").step == 12


def test_temporary_names_are_those_that_it_says() -> None:
    configure([SNAP])
    assert locate("r/snapshots/snap_12.wip/a.w").temporary
    assert locate("r/snapshots/snap_12/a.wip").temporary
    assert not locate("r/snapshots/snap_12/a.w").temporary
    assert locate("r/snapshots/snap_12/ok.txt").last
    assert not locate("r/notes/ok.txt").last


def verdict(*names: str, pattern: Pattern, at: float = 0.0, step: int = 12) -> tuple[State, str, str, str]:
    configure([pattern])
    found = [Member(f"r/{name}", True, None, at) for name in names]
    said = judge(found, now=1000.0, settle_s=2.0, previous=None)
    assert all(locate(member.path).step == step for member in found)
    return said.state, said.framework, said.root, said.reason


def test_it_is_complete_at_once_with_its_marker_and_what_it_requires() -> None:
    files = ("snapshots/snap_12/a.w", "snapshots/snap_12/opt/x", "snapshots/snap_12/ok.txt")
    assert verdict(*files, pattern=SNAP, at=1000.0) == (State.COMPLETE, "snap", "r/snapshots/snap_12", "")
    assert verdict(*files[:2], pattern=SNAP)[::3] == (State.TORN, "lacks ok.txt")
    assert verdict(*files[1:], pattern=SNAP)[::3] == (State.TORN, "lacks *.w")
    assert verdict(files[0], files[2], pattern=SNAP)[::3] == (State.TORN, "lacks opt/*")
    assert verdict(*files[:2], pattern=SNAP, at=1000.0)[0] is State.WRITING


def test_a_marker_beside_a_file_carries_the_step_too() -> None:
    assert verdict("weights-7.dat", "weights-7.end", pattern=FLAT, at=1000.0, step=7)[::2] == (State.COMPLETE, "r")
    assert verdict("weights-7.dat", pattern=FLAT, step=7)[::3] == (State.TORN, "lacks weights-7.end")


def test_without_a_marker_the_settle_time_decides_and_general_markers_count() -> None:
    plain = Pattern("plain", "p_{step}/**")
    assert verdict("p_12/x", pattern=plain, at=999.0)[0] is State.WRITING
    assert verdict("p_12/x", pattern=plain)[0] is State.COMPLETE
    assert verdict("p_12/x", "p_12/DONE", pattern=plain, at=1000.0)[0] is State.COMPLETE


def test_names_can_be_compared_between_steps() -> None:
    configure([SNAP, FLAT])
    for one, other in (("snapshots/snap_5/a.w", "snapshots/snap_600/a.w"), ("weights-5.dat", "weights-600.dat")):
        assert names_of([Member(f"r/{one}", True, None, 0.0)]) == names_of([Member(f"r/{other}", True, None, 0.0)])


@pytest.mark.parametrize(
    "pattern",
    ["a", "{step}/{step}", "/a_{step}", "../a_{step}", "a/../b_{step}", "a_{step}/", "a_{step}//b", "a**_{step}/x"],
)
def test_patterns_that_cannot_be_used_are_refused(pattern: str) -> None:
    assert pattern_complaint(pattern)
    with pytest.raises(ValueError, match=r"\S"):
        configure([Pattern("x", pattern)])


@given(
    st.text("a*?/{}[].+\\(|^$ü", max_size=12).map(lambda text: f"{text}{{step}}"),
    st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), min_size=1, max_size=4),
)
def test_any_pattern_that_is_accepted_answers_for_any_path(pattern: str, parts: list[str]) -> None:
    if not pattern_complaint(pattern):
        configure([Pattern("any", pattern)])
        locate("/".join(parts))
        configure([])
