"""Whether what lies on a node is a part, whether the parts make a whole, and which of them belong together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ckptd.domain.launch import Launch
from ckptd.domain.model import Attributes, Checksums
from ckptd.engine.known import Committed
from ckptd.engine.several import Before, Part, Situation, given_up_at, part_of
from ckptd.layouts import Member, names_of
from ckptd.manifest import Manifest, ManifestEntry

NOW, SETTLE = 1000.0, 2.0
ROOT = "run/checkpoint-5"
TWO = Launch(2, 4, 2, "torchrun")
ONE = Launch(1, 2, 2, "torchrun")


def members(*names: str, at: float = 900.0, requires: tuple[str, ...] = (), **change: object) -> list[Member]:
    return [
        replace(
            Member(f"{ROOT}/{name}", True, None, at, frozenset(requires if name == ".metadata" else ())),
            **change,  # type: ignore[arg-type]
        )
        for name in names
    ]


def manifest(node: str, *names: str, nodes: int = 2, at: float = 950.0, **more: object) -> Manifest:
    sums = Checksums(1, 1, (1,), 1)
    entries = tuple(ManifestEntry(f"{ROOT}/{name}", Attributes(0o644, 0, 0, 0), sums) for name in names)
    return Manifest("run", 5, node, nodes, "torch", "ckptd", ROOT, at, at + 1, entries, **more)  # type: ignore[arg-type]


def part(*names: str, requires: tuple[str, ...] = (), **more: object) -> Part | None:
    situation = Situation("a", members(*names, requires=requires), **more)  # type: ignore[arg-type]
    return part_of(situation, now=NOW, settle_s=SETTLE)


def committed(*manifests: Manifest) -> Committed:
    return Committed({one.node: one for one in manifests}, {one.node: "v" for one in manifests})


ZERO = tuple(f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(4))
DCP = (".metadata", "__0_0.distcp", "__1_0.distcp")
INDEX = ("__0_0.distcp", "__1_0.distcp", "__2_0.distcp")
BEFORE = Before(frozenset({"a", "b"}), frozenset())


@pytest.mark.parametrize(
    ("names", "more", "nodes"),
    [
        (("model.bin",), {}, None),
        (("model.bin",), {"launch": Launch(8, 64, 8)}, None),  # rank 0 writes for all
        (("model.bin",), {"before": BEFORE}, None),
        (("model.bin",), {"asked": 2}, 2),  # who asks for it gets it
        (ZERO[:2], {}, None),  # nothing speaks for others
        (ZERO[:2], {"asked": 1, "launch": TWO}, None),
        (ZERO[:2], {"launch": TWO}, 2),
        (ZERO[:2], {"launch": TWO, "asked": 3}, 3),
        (ZERO[:2], {"launch": ONE, "before": BEFORE}, None),  # restarted on one node
        (ZERO[:2], {"before": BEFORE}, 2),
        (ZERO, {"launch": TWO}, None),  # all ranks wrote here
        (ZERO[2:], {}, 0),  # higher ranks: somebody has the lower ones
        (ZERO[2:], {"launch": ONE}, None),
        (DCP, {"requires": INDEX}, 0),  # the index names what is not here
        (DCP, {"requires": INDEX, "launch": TWO}, 2),
        (DCP, {"requires": INDEX, "launch": ONE}, None),  # one node: then it is torn
        (DCP, {"requires": INDEX[:2], "launch": TWO}, None),  # one replica of two writes all
        (DCP, {"requires": INDEX[:2], "before": BEFORE}, None),
        (("__2_0.distcp",), {}, 0),
        (ZERO[:2], {"others": {"b": manifest("b", *ZERO[2:])}}, 2),
        (ZERO[:2], {"others": {"b": manifest("b", *ZERO[2:], nodes=0)}}, 0),
        (("model.bin",), {"others": {"b": manifest("b", "other.bin", nodes=2)}}, 2),
        (("model.bin",), {"others": {"b": manifest("b", "other.bin", nodes=1)}}, None),
    ],
)
def test_for_how_many_nodes_a_checkpoint_waits(
    names: tuple[str, ...], more: dict[str, object], nodes: int | None
) -> None:
    found = part(*names, **more)  # type: ignore[arg-type]
    assert (None if found is None else found.nodes) == nodes


@pytest.mark.parametrize(
    ("change", "ready", "reason", "wake_at"),
    [
        ({}, True, "on its way", None),
        ({"at": 999.0}, False, "quiet for 2 s", 1001.0),
        ({"settled": False}, False, "is open", None),
    ],
)
def test_a_part_is_ready_when_it_is_closed_and_quiet(
    change: dict[str, object], ready: bool, reason: str, wake_at: float | None
) -> None:
    found = part_of(Situation("a", members(*ZERO[:2], **change), launch=TWO), now=NOW, settle_s=SETTLE)  # type: ignore[arg-type]
    assert found is not None
    assert (found.ready, found.wake_at) == (ready, wake_at)
    assert reason in found.reason


def test_what_is_cut_short_is_torn_whoever_else_has_written() -> None:
    found = members(*ZERO[:2], defect="cut short")
    assert part_of(Situation("a", found, launch=TWO), now=NOW, settle_s=SETTLE) is None


def test_a_part_that_lacks_what_this_node_had_before_is_not_ready() -> None:
    own = names_of(members(*ZERO[:2], "extra.bin"))
    found = part(*ZERO[:2], launch=TWO, before=Before(frozenset({"a", "b"}), own))
    assert found is not None
    assert not found.ready
    assert "lacks extra.bin" in found.reason


def test_what_is_waited_for_is_named() -> None:
    found = part(*DCP, requires=INDEX, committed=True, before=Before(frozenset({"a", "gpu-2"}), frozenset()))
    assert found is not None
    assert found.reason.startswith("1 of 2 nodes committed: waits for gpu-2 (lacks __2_0.distcp)")
    assert "policy nodes=1" in found.reason
    assert found.lacks == (f"{ROOT}/__2_0.distcp",)
    asked = part("model.bin", asked=3, committed=True)
    assert asked is not None
    assert asked.reason == "1 of 3 nodes committed: waits for other nodes"


@pytest.mark.parametrize(
    ("manifests", "whole"),
    [
        ([manifest("a", "model.bin", nodes=1)], True),
        ([manifest("a", "model.bin")], False),
        ([manifest("a", "model.bin"), manifest("b", "other.bin")], True),
        ([manifest("a", "model.bin", nodes=3), manifest("b", "other.bin")], False),
        ([manifest("b", *ZERO[2:], nodes=0)], False),
        ([manifest("b", *ZERO[2:], nodes=0), manifest("a", *ZERO[:2], nodes=1)], False),  # the layout knows what lacks
        ([manifest("b", *ZERO[2:], nodes=0), manifest("a", *ZERO[:2], "mp_rank_00_model_states.pt", nodes=1)], True),
        ([manifest("a", *DCP, nodes=0, lacks=(f"{ROOT}/__2_0.distcp",))], False),
        ([manifest("a", *DCP, nodes=0, lacks=(f"{ROOT}/__2_0.distcp",)), manifest("b", "__2_0.distcp", nodes=0)], True),
        ([manifest("a", "__0_0.distcp"), manifest("b", "__1_0.distcp")], False),  # nobody has the marker
        ([manifest("a", "model-00001-of-00002.safetensors"), manifest("b", "x.bin")], False),
    ],
)
def test_a_union_is_whole_when_all_nodes_are_there_and_nothing_lacks(manifests: list[Manifest], whole: bool) -> None:
    assert committed(*manifests).whole is whole


class TestAttempts:
    """`replaces` says which manifests of other nodes a rewrite has made void."""

    old_a = manifest("a", "a.bin", at=100.0)
    old_b = manifest("b", "b.bin", at=101.0)
    new_a = manifest("a", "a.bin", at=200.0, replaces={"a": 100.0, "b": 101.0})
    new_b = manifest("b", "b.bin", at=150.0, replaces={"a": 100.0, "b": 101.0})

    def test_a_new_part_and_an_old_one_do_not_make_a_whole(self) -> None:
        both = committed(self.new_a, self.old_b)
        assert set(both.fitting) == {"a"}
        assert not both.whole
        assert both.replaced_by("b", 101.0) == "a"
        assert [entry.key for entry in both.entries().values()] == [f"{ROOT}/a.bin"]

    def test_two_new_parts_do(self) -> None:
        assert committed(self.new_a, self.new_b).whole

    def test_two_old_parts_do(self) -> None:
        assert committed(self.old_a, self.old_b).whole

    def test_clocks_of_two_nodes_are_never_compared(self) -> None:
        behind = replace(self.new_b, written_at=102.0)  # this node's clock is far behind that of the other
        assert committed(self.new_a, behind).whole

    def test_it_survives_its_way_through_the_remote(self) -> None:
        again = Manifest.from_json(self.new_a.to_json(), "x")
        assert set(committed(again, self.old_b).fitting) == {"a"}


def test_a_part_is_given_up_after_thirty_settle_times() -> None:
    assert given_up_at(100.0, 2.0) == 160.0
