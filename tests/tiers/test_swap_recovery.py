"""A daemon that is killed in the middle of a swap, and jobs that get in between its steps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ckptd.domain.errors import SourceChanged
from ckptd.domain.model import Attributes
from ckptd.tiers import swap
from ckptd.tiers.beneath import parent_of
from ckptd.tiers.beside import Beside, private_place
from ckptd.tiers.recover import recover


class Killed(BaseException):
    """Nothing after it happens, as after SIGKILL: clean-up that would run is switched off, too."""


class Scene:
    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        self.root = place / "volume"
        self.file = self.root / "run" / ("n" * 255)
        self.copy = place / "7"
        self.staged = place / "staged"
        self.file.parent.mkdir(parents=True)
        for path in (self.file, self.copy, self.staged):
            path.write_text("weights")
        os.utime(self.copy, ns=(os.stat(self.file).st_mtime_ns,) * 2)

    @property
    def relative(self) -> str:
        return f"run/{self.file.name}"

    def link_out(self) -> None:
        stamp = swap.stamp_of(str(self.file))
        assert stamp is not None
        swap.link_out(str(self.root), self.relative, stamp, str(self.copy))

    def relink(self) -> None:
        stamp = swap.stamp_of(str(self.copy))
        assert stamp is not None
        mine = Attributes(0o644, os.getuid(), os.getgid(), stamp.mtime_ns)
        swap.relink(str(self.root), self.relative, str(self.staged), str(self.copy), stamp, mine)

    def remove(self) -> None:
        stamp = swap.stamp_of(str(self.file))
        assert stamp is not None
        swap.remove(str(self.root), self.relative, stamp)

    def killed_at(self, point: str, act: object) -> None:
        """Runs `act` up to `point`: `before` or `after` the names change."""

        def stop(*_: object, **__: object) -> None:
            raise Killed

        with self.patch.context() as patch:
            for name in ("discard", "give_back", "put_back", "send_back"):
                patch.setattr(Beside, name, stop)
            if point == "before":
                patch.setattr(Beside, "exchange", stop)
                patch.setattr(Beside, "take", stop)
            else:
                patch.setattr(swap.time, "sleep", stop)
            with pytest.raises(Killed):
                act()  # type: ignore[operator]

    def entries(self) -> list[str]:
        return sorted(os.listdir(self.file.parent))


@pytest.fixture
def scene(place: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(place, monkeypatch)


@pytest.mark.parametrize("point", ["before", "after"])
@pytest.mark.parametrize("act", ["link_out", "remove", "relink"])
def test_a_killed_swap_leaves_the_file_readable_and_nothing_else(scene: Scene, point: str, act: str) -> None:
    if act == "relink":
        scene.link_out()
    scene.killed_at(point, getattr(scene, act))
    assert len(scene.entries()) >= 1
    recover(str(scene.root))
    assert scene.entries() == [scene.file.name]
    assert scene.file.read_text() == "weights"
    assert recover(str(scene.root)) == []


def test_what_was_written_to_the_old_file_after_the_exchange_comes_back(scene: Scene) -> None:
    late = os.open(scene.file, os.O_WRONLY)
    os.close(late)
    scene.killed_at("after", scene.link_out)
    (private,) = [name for name in scene.entries() if name.startswith(".ckptd-")]
    (scene.file.parent / private / scene.file.name).write_text("written")
    assert recover(str(scene.root)) == [scene.relative]
    assert scene.file.read_text() == "written"
    assert not scene.file.is_symlink()


def test_what_the_job_put_at_the_path_meanwhile_stays(scene: Scene) -> None:
    for act in (scene.link_out, scene.remove):
        scene.killed_at("after", act)
        scene.file.unlink(missing_ok=True)
        scene.file.write_text("newer")
        recover(str(scene.root))
        assert scene.file.read_text() == "newer"
        assert scene.entries() == [scene.file.name]


@pytest.fixture
def beside(scene: Scene) -> Beside:
    """Between the exchange and what comes after it: the link is at the path, the old file aside."""
    with parent_of(str(scene.root), scene.relative) as (parent, name), private_place(parent, name) as made:
        made.make_link(str(scene.copy), os.getuid(), os.getgid())
        made.exchange(expected=os.stat(scene.file))
        yield made  # type: ignore[misc]
        made.discard()


def test_giving_back_restores_the_old_file(scene: Scene, beside: Beside) -> None:
    beside.give_back()
    assert not scene.file.is_symlink()


def test_giving_back_yields_to_what_the_job_renamed_over_the_path(scene: Scene, beside: Beside) -> None:
    scene.staged.write_text("newer")
    os.rename(scene.staged, scene.file)
    beside.give_back()
    assert scene.file.read_text() == "newer"


def test_giving_back_yields_to_a_job_that_renames_again_and_again(
    scene: Scene, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = iter(range(1, 4))
    swap_names = Beside._swap

    def race(self: Beside) -> None:
        for number in newer:
            scene.staged.write_text(f"newer {number}")
            os.rename(scene.staged, scene.file)
            break
        swap_names(self)

    monkeypatch.setattr(Beside, "_swap", race)
    beside.give_back()
    assert scene.file.read_text() == "newer 3"


def test_giving_back_yields_to_a_job_that_deleted_the_file(scene: Scene, beside: Beside) -> None:
    scene.file.unlink()
    beside.give_back()
    assert not scene.file.exists()


def test_a_file_that_is_replaced_just_before_the_exchange_is_not_touched(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_names = Beside._swap
    first = iter([True])

    def race(self: Beside) -> None:
        if next(first, False):
            scene.staged.write_text("newer")
            os.rename(scene.staged, scene.file)
        swap_names(self)

    monkeypatch.setattr(Beside, "_swap", race)
    with pytest.raises(SourceChanged):
        scene.link_out()
    assert scene.file.read_text() == "newer"
    assert scene.entries() == [scene.file.name]
