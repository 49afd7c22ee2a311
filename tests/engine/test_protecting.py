"""Which checkpoints the job's links and pointer files, and the users' tags, keep from being let go."""

from __future__ import annotations

import pytest

from ckptd.catalog import FileRow, PinRow
from ckptd.domain.model import Attributes, Place
from ckptd.engine.protecting import protect, reasons, resolved
from ckptd.engine.unit import Unit
from ckptd.layouts import locate
from ckptd.policy.policy import Policy

ROOTS = {"v": ("/ckpt", "/dev/shm/tier/ckpt")}


def units(*files: tuple[str, str | int | None]) -> dict[tuple[str, int | None], Unit]:
    """From paths with what they lead to: a link's target, a pointer's step, None for a plain file."""
    found: dict[tuple[str, int | None], Unit] = {}
    for number, (path, leads) in enumerate(files):
        where = locate(path)
        link = leads if isinstance(leads, str) else None
        named = leads if isinstance(leads, int) else None
        row = FileRow(
            number, "v", path, where.run, where.step, link, 1, True, 1, Attributes(0o644, 0, 0, 0), 0.0, None, None,
            points_to=named,
        )  # fmt: skip
        found.setdefault((where.run, where.step), Unit("v", where.run, where.step)).rows.append(row)
    return found


def protected(*files: tuple[str, str | int | None], **more) -> dict[tuple[str, int | None], tuple[str, ...]]:
    found = units(*files)
    protect(list(found.values()), more.get("tags", {}), more.get("flushed", ()), ROOTS)
    return {key: unit.protected for key, unit in found.items() if unit.protected}


STEPS = (("r/checkpoint-100/m.pt", None), ("r/checkpoint-200/m.pt", None))


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("r/best", "checkpoint-100"),
        ("r/best", "checkpoint-100/"),
        ("r/best.ckpt", "checkpoint-100/m.pt"),
        ("r/best.ckpt", "./checkpoint-200/../checkpoint-100/m.pt"),
        ("r/links/best", "../checkpoint-100"),
        ("r/best", "/ckpt/r/checkpoint-100"),
        ("r/best", "/dev/shm/tier/ckpt/r/checkpoint-100"),
    ],
)
def test_a_link_protects_what_it_leads_to(path, target):
    assert protected(*STEPS, (path, target)) == {("r", 100): (f"link:{path.removeprefix('r/')}",)}


@pytest.mark.parametrize(
    "target",
    ["nowhere", "/elsewhere/r/checkpoint-100", "../other/checkpoint-100", "../../r/checkpoint-100", "best", ".."],
)
def test_a_link_that_leads_elsewhere_protects_nothing(target):
    assert protected(*STEPS, ("r/best", target)) == {}


def test_a_link_inside_of_the_checkpoint_does_not_protect_it_but_one_in_another_does():
    assert protected(*STEPS, ("r/checkpoint-200/own", "m.pt")) == {}
    assert protected(*STEPS, ("r/checkpoint-200/base.pt", "../checkpoint-100/m.pt")) == {
        ("r", 100): ("link:checkpoint-200/base.pt",)
    }


def test_links_to_links_are_followed_and_circles_end():
    assert protected(*STEPS, ("r/best.pt", "last/m.pt"), ("r/last", "checkpoint-200")) == {
        ("r", 200): ("link:best.pt", "link:last")
    }
    assert protected(*STEPS, ("r/a", "b"), ("r/b", "a")) == {}


def test_a_pointer_file_protects_the_step_that_it_names():
    assert protected(*STEPS, ("r/latest", 200)) == {("r", 200): ("link:latest",)}
    assert protected(*STEPS, ("r/latest", 300)) == {}


def test_tags_and_flushes_protect_and_are_sent_even_where_sync_latest_would_skip():
    found = units(*STEPS, ("r/best", "checkpoint-200"))
    protect(list(found.values()), {("v", "r", 100): ["b", "a"]}, {("v", "r", 200)}, ROOTS)
    assert found["r", 100].protected == ("tag:a", "tag:b")
    assert found["r", 200].protected == ("link:best", "flush")
    assert found["r", 100].asked_for
    assert found["r", 200].asked_for
    protect(list(found.values()), {}, (), ROOTS)
    assert (found["r", 100].protected, found["r", 100].asked_for) == ((), False)
    assert (found["r", 200].protected, found["r", 200].asked_for) == (("link:best",), False)


def test_ls_shows_pins_and_multiples_too():
    unit = units(*STEPS)["r", 100]
    unit.protected = ("tag:best",)
    pins = [PinRow("v", "r", 100, Place.RAM, None), PinRow("v", "r", 200, Place.RAM, None)]
    assert reasons(unit, Policy(keep_every=50), pins) == ("tag:best", "pin", "every")
    assert reasons(unit, Policy(keep_every=30), [PinRow("v", "r", 100, Place.NVME, 5.0)]) == ("tag:best", "prefetch")


def test_a_link_out_of_the_volume_leads_nowhere():
    assert resolved("r/best", "../../etc", ("/ckpt",)) is None
    assert resolved("r/best", "/ckpt-other/r", ("/ckpt",)) is None
    assert resolved("r/best", "/ckpt/r/x/../y", ("/ckpt",)) == "r/y"
