"""Whether a checkpoint is this node's alone or a part of one that several nodes write, and what the part still waits for.

Pure. The rules and their reasons are in docs/several-nodes.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ckptd.domain.launch import Launch
from ckptd.domain.model import CheckpointState
from ckptd.layouts import Member, judge, locate, names_of
from ckptd.layouts.names import lacking as lacking_names
from ckptd.layouts.spread import elsewhere, is_spread
from ckptd.manifest import Manifest

GIVEN_UP_SETTLES = 30.0
"""A part that was quiet for so many settle times (a minute by default) is given up once a later step is whole."""


@dataclass(frozen=True, slots=True)
class Before:
    """The run's last whole checkpoint."""

    nodes: frozenset[str]
    """That wrote it; empty where one did."""
    own: frozenset[str]
    """Names of this node's files in it, comparable between steps."""


@dataclass(frozen=True, slots=True)
class Situation:
    here: str
    """This node's name."""
    mine: Sequence[Member]
    """What this node wrote."""
    others: Mapping[str, Manifest] = field(default_factory=dict)
    """Manifests of other nodes that belong to the same attempt."""
    committed: bool = False
    """This node's manifest is there and describes `mine`."""
    asked: int = 0
    """The policy's `nodes`."""
    launch: Launch | None = None
    before: Before | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What lies here, as a part of a checkpoint."""

    ready: bool
    """All of it is here, closed and quiet: it may be made durable and committed."""
    nodes: int
    """How many nodes write the checkpoint; 0: not known."""
    reason: str
    """What is waited for."""
    lacks: tuple[str, ...] = ()
    """Paths that an index here names, and that are not here."""
    wake_at: float | None = None


def part_of(situation: Situation, *, now: float, settle_s: float) -> Part | None:
    """None: what lies here is to be a whole checkpoint by itself, and the rules for one node say whether it is."""
    mine = [member for member in situation.mine if not locate(member.path).temporary]
    if not mine or situation.asked == 1:
        return None
    here = {member.path for member in mine}
    lacks = tuple(sorted(_required(mine) - here))
    union = {*here, *(entry.path for manifest in situation.others.values() for entry in manifest.entries)}
    nodes = _nodes(situation, here, lacks)
    if nodes is None:
        return None
    if any(member.defect for member in mine):
        return None  # cut short, whoever else has written
    if unsettled := [member for member in situation.mine if not member.settled]:
        return Part(False, nodes, f"{unsettled[0].path.rpartition('/')[2]} is open", lacks)
    if len(mine) < len(situation.mine):
        return None  # something still has a temporary name
    if situation.before and (gone := lacking_names(names_of(mine), situation.before.own)):
        return Part(
            False, nodes, f"lacks {gone[0].rpartition('/')[2]}, which this node had in the checkpoint before", lacks
        )
    quiet_at = max(min(member.changed_at, now) for member in mine) + settle_s
    waits = _waits(situation, nodes, union, lacks)
    if quiet_at > now and not situation.committed:
        return Part(False, nodes, f"this node's part waits until it is quiet for {settle_s:g} s", lacks, quiet_at)
    return Part(True, nodes, waits, lacks)


def _required(members: Sequence[Member]) -> set[str]:
    return {
        f"{member.path.rpartition('/')[0]}/{name}".removeprefix("/") for member in members for name in member.requires
    }


def _nodes(situation: Situation, here: Collection[str], lacks: Sequence[str]) -> int | None:
    """How many nodes write it (0: several, not known how many); None: this one alone.

    What was asked for, what other nodes' manifests say, then what is known of the job; but only for a layout whose parts
    every node writes, and only when something speaks for a part that is not here.
    """
    launch = situation.launch
    if situation.asked:
        return situation.asked
    said = max((manifest.nodes for manifest in situation.others.values()), default=1)
    if any(manifest.nodes != 1 for manifest in situation.others.values()):
        return max(said, launch.nodes if launch and launch.nodes > 1 else 0)
    if not is_spread(here):
        return None
    indexed = not lacks and any(member.requires for member in situation.mine)
    missing = bool(lacks) or bool(elsewhere(sorted(here), launch))
    if launch is not None:
        return launch.nodes if launch.nodes > 1 and missing else None
    if missing:
        return len(situation.before.nodes) if situation.before else 0
    if situation.before and len(situation.before.nodes) > 1 and not indexed:
        return len(situation.before.nodes)
    return None


def _waits(situation: Situation, nodes: int, union: Collection[str], lacks: Sequence[str]) -> str:
    """For people: how many have committed, and for whom or what it waits."""
    have = {*situation.others, *([situation.here] if situation.committed else [])}
    count = (
        f"{len(have)} of {nodes} nodes committed" if nodes else f"{len(have)} committed, of an unknown number of nodes"
    )
    known = sorted(situation.before.nodes - have - {situation.here}) if situation.before else []
    if not situation.committed:
        return f"{count}: this node's part is on its way"
    if missing := [path for path in lacks if path not in union]:
        index = f"lacks {missing[0].rpartition('/')[2]}"
    else:
        index = elsewhere(sorted(union), situation.launch) or _judged(union)
    whom = ", ".join(known[:3]) if known else "other nodes"
    advice = "" if situation.asked else f"; if {situation.here} writes alone: policy nodes=1"
    return f"{count}: waits for {whom}" + (f" ({index})" if index else "") + advice


def _judged(union: Collection[str]) -> str:
    said = judge([Member(path, True, None, 0.0) for path in union], now=1e9, settle_s=0.0, previous=None)
    return "" if said.state is CheckpointState.COMPLETE else said.reason


def given_up_at(quiet_since: float, settle_s: float) -> float:
    """When nobody will bring the rest any more, if a later step is whole by then."""
    return quiet_since + GIVEN_UP_SETTLES * settle_s
