"""Names of demoted files: by number, and not to be guessed where others may pass."""

from __future__ import annotations

import stat
from pathlib import Path

from ckptd.tiers.object_names import key_beside, name_of, number_of
from ckptd.tiers.spilled import FIRST


def test_without_a_key_a_name_is_the_number() -> None:
    assert name_of(17, b"") == "17"
    assert number_of("17") == 17


def test_with_a_key_it_depends_on_both_and_still_tells_the_number(tmp_path: Path) -> None:
    one, other = key_beside(_made(tmp_path / "a")), key_beside(_made(tmp_path / "b"))
    names = {name_of(17, one), name_of(17, other), name_of(18, one), name_of(18, other)}
    assert len(names) == 4
    assert {number_of(name) for name in names} == {17, 18}
    assert name_of(FIRST + 5, one) == str(FIRST + 5), "what began in the tier has a number by chance"


def test_the_key_stays_and_is_roots_alone(tmp_path: Path) -> None:
    objects = _made(tmp_path)
    assert key_beside(objects) == key_beside(objects)
    assert stat.S_IMODE((tmp_path / "objects.key").stat().st_mode) == 0o600


def test_what_is_no_objects_name_has_no_number() -> None:
    for name in ("", "staged.tmp", "-17", "x-17", "\u0663", "²"):
        assert number_of(name) is None, name


def _made(folder: Path) -> str:
    (folder / "objects").mkdir(parents=True)
    return str(folder / "objects")
