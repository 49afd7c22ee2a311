"""What real frameworks did (trees/), step by step: nothing is complete before their last event, all is in the end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ckptd.domain.model import CheckpointState as State
from ckptd.layouts import Member, Verdict, judge, locate, names_of, pointed_step, step_of_link
from ckptd.layouts.requirements import required_by

TREES = {path.stem: json.loads(path.read_text()) for path in sorted((Path(__file__).parent / "trees").glob("*.json"))}
SETTLE = 2.0
TICK = 0.001
"""Seconds between two events: nothing is ever quiet for the settle time before the end."""
FAR = 100.0


@dataclass
class Replay:
    """The files as ckptd sees them, after some of the events."""

    texts: dict[str, str]
    at: float = 1000.0
    files: dict[str, float] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def apply(self, kind: str, path: str, *rest: str) -> list[str]:
        """The paths that changed."""
        self.at += TICK
        match kind:
            case "write":
                self.files[path] = self.at
                return [path]
            case "link":
                self.links[path] = rest[0]
                return [path]
            case "rename":
                return self._rename(path, rest[0])
            case "delete":
                for gone in [
                    name for name in (*self.files, *self.links) if name == path or name.startswith(f"{path}/")
                ]:
                    self.files.pop(gone, None)
                    self.links.pop(gone, None)
        return []

    def _rename(self, source: str, destination: str) -> list[str]:
        if source in self.links:
            self.links[destination] = self.links.pop(source)
            return [destination]
        moved = [name for name in self.files if name == source or name.startswith(f"{source}/")]
        if not moved:  # it was open: no close was seen under its old name
            return []
        for name in moved:
            del self.files[name]
            self.files[destination + name[len(source) :]] = self.at
        return [destination + name[len(source) :] for name in moved]

    def members(self, step: int) -> list[Member]:
        found = {path: at for path, at in self.files.items() if locate(path).step == step}
        found |= {path: self.at for path in self.links if locate(path).step == step}
        return [Member(path, True, None, at, self._requires(path)) for path, at in found.items()]

    def _requires(self, path: str) -> frozenset[str]:
        return required_by(path.rpartition("/")[2], self.texts.get(path, "").encode())

    def steps(self) -> list[int]:
        return sorted({step for path in (*self.files, *self.links) if (step := locate(path).step) is not None})

    def verdict(self, step: int, *, later: float = 0.0, previous: frozenset[str] | None = None) -> Verdict:
        return judge(self.members(step), now=self.at + later, settle_s=SETTLE, previous=previous)


def last_events(tree: dict[str, Any]) -> dict[int, int]:
    """The number of the last event that wrote something of each step."""
    replay, last = Replay(tree["pointers"]), {}
    for number, event in enumerate(tree["events"]):
        for path in replay.apply(*event):
            if (step := locate(path).step) is not None and not locate(path).temporary:
                last[step] = number
    return last


@pytest.mark.parametrize("name", TREES)
def test_nothing_is_complete_at_once_before_the_frameworks_last_event(name: str) -> None:
    tree = TREES[name]
    last = last_events(tree)
    replay = Replay(tree["pointers"])
    for number, event in enumerate(tree["events"]):
        replay.apply(*event)
        for step in replay.steps():
            if number < last[step]:
                assert replay.verdict(step).state is not State.COMPLETE, (number, event)


RANKS_DIE_ALONE = {"deepspeed-zero1", "deepspeed-zero3", "deepspeed-tagged", "deepspeed-universal"}
"""Here fewer ranks than before look like a smaller job; what the first rank's file says is not in the trees."""


@pytest.mark.parametrize("name", sorted(TREES.keys() - RANKS_DIE_ALONE))
def test_what_a_writer_that_died_left_is_never_taken_for_whole_after_a_first_checkpoint(name: str) -> None:
    tree = TREES[name]
    last = last_events(tree)
    replay = Replay(tree["pointers"])
    whole: dict[int, frozenset[str]] = {}
    for number, event in enumerate(tree["events"]):
        replay.apply(*event)
        for step in replay.steps():
            before = [whole[other] for other in sorted(whole) if other < step]
            if number < last[step] and before:
                assert replay.verdict(step, later=FAR, previous=before[-1]).state is not State.COMPLETE, (number, event)
            elif number == last[step]:
                whole[step] = names_of(replay.members(step))


@pytest.mark.parametrize("name", TREES)
def test_each_is_complete_in_the_end_with_its_step_framework_and_root(name: str) -> None:
    tree = TREES[name]
    replay = Replay(tree["pointers"])
    for event in tree["events"]:
        replay.apply(*event)
    assert set(replay.files) | set(replay.links) == set(tree["files"]), "the events make the files"
    previous = None
    steps = replay.steps()
    for step in steps:
        found = replay.verdict(step, later=FAR, previous=previous)
        assert (found.state, found.reason, found.framework) == (State.COMPLETE, "", tree["expect"]["framework"])
        assert found.root.startswith("run-1")
        assert all(path == found.root or path.startswith(f"{found.root}/") for path in kept(replay, step))
        previous = names_of(replay.members(step))
    if any("_20" in path for path in tree["files"]):  # Ray Train's names are dates
        assert len(steps) == len(tree["expect"]["steps"])
    else:
        assert steps == tree["expect"]["steps"]


def kept(replay: Replay, step: int) -> list[str]:
    return [member.path for member in replay.members(step) if not locate(member.path).temporary]


@pytest.mark.parametrize("name", TREES)
def test_everything_that_is_left_is_kept(name: str) -> None:
    """A file that a framework leaves behind and needs is never taken for a temporary one."""
    odd = [path for path in TREES[name]["files"] if locate(path).temporary]
    assert [path for path in odd if not path.endswith(".validate_storage_marker")] == []


@pytest.mark.parametrize("name", TREES)
def test_pointers_and_links_name_a_step_that_is_there(name: str) -> None:
    tree = TREES[name]
    replay = Replay(tree["pointers"])
    for event in tree["events"]:
        replay.apply(*event)
    for path, text in tree["pointers"].items():
        base = path.rpartition("/")[2]
        if locate(path).step is None and not base.endswith(".index.json"):
            assert pointed_step(base, text.encode()) in replay.steps(), path
    for path, target in replay.links.items():
        assert step_of_link(path, target) in replay.steps()


@pytest.mark.parametrize("name", TREES)
def test_without_its_markers_nothing_is_complete_at_once(name: str) -> None:
    tree = TREES[name]
    replay = Replay(tree["pointers"])
    for event in tree["events"]:
        replay.apply(*event)
    for step in replay.steps():
        fresh = [Member(m.path, True, None, replay.at, m.requires) for m in replay.members(step)]
        unmarked = [member for member in fresh if not locate(member.path).last]
        assert judge(unmarked, now=replay.at, settle_s=SETTLE, previous=None).state is not State.COMPLETE
