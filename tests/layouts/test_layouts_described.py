"""What the layouts say of themselves is true, and stands in docs/layouts.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ckptd.layouts import POINTERS, locate
from ckptd.layouts.frameworks import GENERIC_MARKERS, LAYOUTS, Layout

PAGE = (Path(__file__).parents[2] / "docs" / "layouts.md").read_text(encoding="utf-8")
ROWS = {name: row for row in PAGE.splitlines() if (name := row[3:].split("`")[0]) and row.startswith("| `")}
STEP = 1200


def example(place: str) -> str:
    path = place.replace("{step}", f"{STEP:07d}" if "iter_" in place else str(STEP))
    path = path.replace("epoch=*", "epoch=3").replace("ckpt-1200.*", "ckpt-1200.index")
    return re.sub(r"\*(?!\*)", "x", path.replace("**", "deep/file.bin"))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_each_is_described(layout: Layout) -> None:
    row = ROWS[layout.name]
    assert any(f"`{place}`" in row for place in layout.places) or layout.name == "generic"
    for name in (layout.markers - GENERIC_MARKERS) | layout.pointers:
        assert f"`{name}`" in row, name


@pytest.mark.parametrize(
    ("layout", "place"),
    [(layout, place) for layout in LAYOUTS for place in layout.places],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_places_that_each_names_belong_to_a_step(layout: Layout, place: str) -> None:
    found = locate(f"run-1/{example(place)}")
    assert (found.run, found.step, found.temporary) == ("run-1", STEP, False)


@pytest.mark.parametrize("name", sorted(POINTERS))
def test_pointers_belong_to_no_step_and_go_last(name: str) -> None:
    found = locate(f"run-1/{name}")
    assert (found.step, found.temporary, found.last) == (None, False, True)


def test_names_are_told_apart() -> None:
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
