"""From events to changes, one event after the other, without a kernel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watchdog.observers.inotify_c import InotifyConstants as In
from watchdog.observers.inotify_c import InotifyEvent

from ckptd.domain.changes import Deleted, Lost, Moved, ObjectSettled, Scanned
from ckptd.fronts.watch.steps import Explore, Look, Rescan, Step, Unwatch, Why
from ckptd.fronts.watch.translate import Translator
from ckptd.fronts.watch.tree import Tree
from ckptd.fronts.watch.walk import Directory, Found

ROOT, A, B, DEEP = 1, 2, 3, 4
FROM, TO, DIR = In.IN_MOVED_FROM, In.IN_MOVED_TO, In.IN_ISDIR


@pytest.fixture
def translator() -> Translator:
    """Watches the root, `a`, `b` and `a/deep`."""
    made = Translator()
    for path, wd in (("", ROOT), ("a", A), ("b", B), ("a/deep", DEEP)):
        assert made.tree.attach(path, wd, (0, wd))
    made.objects_wd = 9
    return made


def event(wd: int, mask: int, name: str = "", cookie: int = 0) -> InotifyEvent:
    return InotifyEvent(wd, mask, cookie, name.encode())  # type: ignore[arg-type]


def fed(translator: Translator, *events: InotifyEvent) -> list[Step]:
    return [step for one in events for step in translator.feed(one)]


def found(*directories: tuple[str, int], files: tuple[str, ...] = (), partial: bool = False) -> Found:
    made = tuple(Directory(path, wd, (0, wd)) for path, wd in directories)
    return Found(made, files, special=(), blind=(), partial=partial)


def test_the_two_halves_of_a_rename_are_one_move(translator: Translator) -> None:
    assert fed(translator, event(A, FROM, "f", 7)) == []
    assert translator.waiting
    assert fed(translator, event(B, TO, "g", 7)) == [
        Moved("a/f", "b/g", directory=False),
        Look("b/g", Why.MOVED),
        Look("a/f", Why.LEFT),
    ]
    assert not translator.waiting


def test_events_between_the_halves_do_not_part_them(translator: Translator) -> None:
    steps = fed(
        translator, event(A, FROM, "f", 7), event(B, In.IN_CLOSE_WRITE, "other"), event(ROOT, FROM, "x", 8),
        event(A, TO, "g", 7), event(B, TO, "x", 8),
    )  # fmt: skip
    assert [step for step in steps if isinstance(step, Moved)] == [
        Moved("a/f", "a/g", directory=False),
        Moved("x", "b/x", directory=False),
    ]


def test_what_does_not_arrive_has_left_when_the_grace_is_over(translator: Translator) -> None:
    assert fed(translator, event(A, FROM, "f", 7)) == []
    assert list(translator.expire()) == [Look("a/f", Why.GONE)]
    assert list(translator.expire()) == []


def test_something_new_at_the_same_path_ends_the_wait_at_once(translator: Translator) -> None:
    steps = fed(translator, event(A, FROM, "f", 7), event(A, In.IN_CREATE, "f"))
    assert steps == [Look("a/f", Why.GONE), Look("a/f", Why.CREATED)]


def test_what_comes_without_a_first_half_has_arrived(translator: Translator) -> None:
    assert fed(translator, event(A, TO, "f", 7)) == [Look("a/f", Why.ARRIVED)]
    assert fed(translator, event(A, TO | DIR, "d", 8)) == [Explore("a/d")]


def test_a_moved_directory_keeps_its_watches_and_what_happened_in_it_is_told_at_its_new_place(
    translator: Translator,
) -> None:
    steps = fed(
        translator, event(ROOT, FROM | DIR, "a", 7), event(DEEP, In.IN_CLOSE_WRITE, "f"), event(B, TO | DIR, "c", 7)
    )
    assert steps == [
        Moved("a", "b/c", directory=True),
        Explore("b/c", believed=A),
        Look("a", Why.LEFT),
        Look("b/c/deep/f", Why.CLOSED),
    ]


def test_a_directory_that_left_is_not_watched_any_more(translator: Translator) -> None:
    fed(translator, event(ROOT, FROM | DIR, "a", 7), event(DEEP, In.IN_CLOSE_WRITE, "f"))
    gone, *others = translator.expire()
    assert isinstance(gone, Unwatch)
    assert set(gone.watches) == {A, DEEP}
    assert others == [Deleted("a", directory=True), Look("a", Why.LEFT)]
    assert fed(translator, event(DEEP, In.IN_CLOSE_WRITE, "f")) == []


def test_private_names_are_never_reported(translator: Translator) -> None:
    for mask in (In.IN_CREATE, In.IN_CREATE | DIR, In.IN_CLOSE_WRITE, In.IN_DELETE, In.IN_ATTRIB, TO, FROM):
        assert fed(translator, event(A, mask, ".ckptd-x", 1)) == []
    assert not translator.waiting
    assert fed(translator, event(A, FROM, "f", 2), event(A, TO, ".ckptd-x", 2)) == [Look("a/f", Why.GONE)]
    assert fed(translator, event(A, FROM, ".ckptd-x", 3), event(A, TO, "f", 3)) == [Look("a/f", Why.ARRIVED)]


def test_objects_are_told_by_their_number(translator: Translator) -> None:
    written = In.IN_CLOSE_WRITE
    assert fed(translator, event(9, written, "17")) == [ObjectSettled(17)]
    assert fed(translator, event(9, written, "17.tmp"), event(9, written, "١٧"), event(9, In.IN_CREATE, "1")) == []


@pytest.mark.parametrize("mask", [In.IN_DELETE_SELF, In.IN_MOVE_SELF, In.IN_UNMOUNT, In.IN_IGNORED])
def test_only_the_roots_own_end_is_the_end(translator: Translator, mask: int) -> None:
    assert not any(isinstance(step, Lost) for step in fed(translator, event(A, mask)))
    (lost,) = fed(translator, event(ROOT, mask))
    assert isinstance(lost, Lost)


def test_lost_events_ask_for_a_whole_scan(translator: Translator) -> None:
    assert fed(translator, event(-1, In.IN_Q_OVERFLOW)) == [Rescan()]


def test_a_new_tree_is_reported_as_incomplete(translator: Translator) -> None:
    step = Explore("a/new")
    steps = list(translator.explored(step, found(("a/new", 10), ("a/new/x", 11), files=("a/new/x/f",))))
    assert steps == [Scanned("a/new", ("a/new/x/f",), complete=False)]
    assert fed(translator, event(11, In.IN_CLOSE_WRITE, "f")) == [Look("a/new/x/f", Why.CLOSED)]
    assert list(translator.explored(Explore("a/none"), found(("a/none", 12)))) == []


def test_another_directory_than_the_one_that_was_moved_raises_doubt(translator: Translator) -> None:
    """`a` was moved and made again before its first event was handled: what was said of it was of the new one."""
    fed(translator, event(ROOT, FROM | DIR, "a", 7), event(ROOT, TO | DIR, "c", 7))
    steps = list(translator.explored(Explore("c", believed=A), found(("c", 20), files=("c/f",))))
    assert Scanned("c", ("c/f",), complete=False) in steps
    assert translator.doubtful
    assert translator.tree.find("c") is translator.tree.of(20)
    (unwatch,) = [step for step in steps if isinstance(step, Unwatch)]
    assert set(unwatch.watches) == {A, DEEP}


def test_a_directory_that_is_found_elsewhere_before_its_rename_was_told_raises_doubt(translator: Translator) -> None:
    list(translator.explored(Explore("b"), found(("b", B))))
    assert not translator.doubtful
    list(translator.explored(Explore("b/new"), found(("b/new", A))))
    assert translator.doubtful


WDS = st.integers(1, 6)
PATHS = st.lists(st.sampled_from("ab"), max_size=4).map("/".join)


@given(st.lists(st.tuples(st.sampled_from(["attach", "cut", "drop", "graft"]), PATHS, PATHS, WDS), max_size=30))
def test_the_tree_never_has_a_circle_or_a_watch_in_two_places(acts: list[tuple[str, str, str, int]]) -> None:
    tree = Tree()
    tree.attach("", 0, None)
    for act, path, other, wd in acts:
        node = tree.find(path)
        if act == "attach":
            tree.attach(path or "a", wd, (0, wd))
        elif node is not None and node is not tree.root:
            parent = tree.find(other)
            if act == "cut":
                tree.drop(node)
            elif act == "drop":
                assert node.wd is None or node.wd in tree.drop(node) or tree.of(node.wd) is not node
            elif parent is not None and node not in list(parent.ancestors()):
                tree.graft(node, parent, "x")
        tree.sweep()
        hanging = [found for found in tree.root.subtree() if found.wd is not None]
        assert sorted(found.wd or 0 for found in hanging) == sorted(tree.watches())
        for found_node in hanging:
            assert tree.find(tree.path(found_node)) is found_node
