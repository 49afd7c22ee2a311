"""What the rows mean: checkpoints with their states. Pure; everything here is derived anew from rows and manifests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ckptd.catalog import FileRow
from ckptd.catalog.nodes import Withdrawal
from ckptd.domain.launch import Launch
from ckptd.domain.model import RESTORABLE, CheckpointState, Place
from ckptd.domain.names import path_of
from ckptd.engine import parts
from ckptd.engine.known import Committed, UnitKey
from ckptd.engine.matching import matches
from ckptd.engine.several import Before, Part
from ckptd.layouts import Member, Verdict, judge, locate, names_of
from ckptd.layouts.judge import root_of
from ckptd.manifest import ManifestEntry
from ckptd.policy.policy import Policy, Sync
from ckptd.policy.snapshot import FileView
from ckptd.policy.timeline import Written, superseded


@dataclass(slots=True)
class Unit:
    """A checkpoint, or (step None) a run's loose files."""

    volume: str
    run: str
    step: int | None
    rows: list[FileRow] = field(default_factory=list)
    committed: Committed | None = None
    cold: dict[str, ManifestEntry] = field(default_factory=dict)
    """Members that only the manifest describes, by path."""
    state: CheckpointState = CheckpointState.WRITING
    reason: str = ""
    framework: str = ""
    root: str = ""
    wake_at: float | None = None
    manifest_current: bool = False
    names: frozenset[str] = frozenset()
    """Of its members, comparable between steps."""
    policy: Policy | None = None
    previous: frozenset[str] | None = None
    """What it was judged by."""
    pointed: bool = False
    """A pointer of the run that is younger than its files names it."""
    idle: tuple[FileView, ...] | None = None
    """Its files as the planner sees them while nothing is done to them; filled in when first asked for."""
    outlived: bool = False
    """A newer checkpoint of the run is complete or committed."""
    written: Written | None = None
    superseded: bool = False
    """The job went back to an earlier step and has gone on from there since (`policy.timeline`)."""
    links: tuple[tuple[str, str | int], ...] | None = None
    """The job's symbolic links with their targets, its pointer files with the steps they name; filled in when first asked for."""
    protected: tuple[str, ...] = ()
    """Which tags, links and flushes keep it from being let go (`engine.protecting`)."""
    part: Part | None = None
    """What lies here is a part of a checkpoint that several nodes write; None: it is, or is to be, whole by itself."""
    part_committed: bool = False
    """This node's manifest describes its part as it is."""
    rewrites: bool = False
    """What lies here replaces content that a manifest of the same attempt described: the step is written anew."""
    mine: tuple[FileRow, ...] = ()
    """Of its rows, what this node wrote; the others are copies of what other nodes wrote."""
    aside: frozenset[int] = frozenset()
    """Rows, by id, that are not sent: another node wrote the same file, and its content counts (or is just compared)."""
    withdrawn: bool = False
    """Another node took this node's manifest of exactly this content away: pruned, or about to be written anew."""
    before: Before | None = None
    """What the run's last whole checkpoint says about its nodes."""
    launch: Launch | None = None
    """How the job was launched that writes it."""
    went: Mapping[str, Withdrawal] = field(default_factory=dict)
    """Manifests of it that are not there any more, by node."""
    as_before: Before | None = None
    """What the run's next checkpoint compares itself with; filled in when first asked for."""
    asked_for: bool = False
    """A tag or a flush names it: `sync = latest` does not skip it."""

    @property
    def key(self) -> tuple[str, str, int | None]:
        return self.volume, self.run, self.step

    @property
    def taken(self) -> bool:
        """Withdrawn by another node, and not to be sent again: the whole was not this node's alone."""
        return self.withdrawn and self.state is CheckpointState.TORN

    @property
    def files(self) -> int:
        return len(self.rows) + len(self.cold)

    @property
    def bytes(self) -> int:
        return sum(row.size for row in self.rows) + sum(entry.size for entry in self.cold.values())

    @property
    def hot_bytes(self) -> int:
        return sum(row.size for row in self.rows if row.local() is not None)

    @property
    def durable_bytes(self) -> int:
        return sum(row.size for row in self.rows if row.durable) + sum(entry.size for entry in self.cold.values())

    @property
    def hot(self) -> bool:
        return not self.cold and all(row.link is not None or row.local() for row in self.rows)

    @property
    def tiers(self) -> tuple[str, ...]:
        places = {copy.place for row in self.rows if (copy := row.local())}
        return tuple(place for place in (Place.RAM, Place.NVME) if place in places)

    @property
    def restorable(self) -> bool:
        return self.state in RESTORABLE

    @property
    def written_at(self) -> float:
        if self.committed is not None and self.state is CheckpointState.COMMITTED:
            return self.committed.written_at  # rows made by a prefetch are younger than what they hold
        if self.rows:
            return max(row.changed_at for row in self.rows)
        return self.committed.first.written_at if self.committed else 0.0

    @property
    def begun(self) -> bool:
        """Some of its present content is in the remote."""
        return any(row.link is None and row.durable for row in self.rows)


def settled(row: FileRow) -> bool:
    return row.closed and not locate(row.path).temporary


def assemble(
    rows: Iterable[FileRow],
    known: Iterable[tuple[UnitKey, Committed]],
    policy_of: Mapping[tuple[str, str], Policy],
    now: float,
    before: Mapping[tuple[str, str, int | None], Unit] | None = None,
    *,
    node: str = "",
    launches: Mapping[UnitKey, Launch] | None = None,
    withdrawn: Mapping[UnitKey, Mapping[str, Withdrawal]] | None = None,
) -> list[Unit]:
    """Units by volume and run, in each run by step (loose files first, then what is superseded).

    `node`: whose rows these are. `launches`: how their jobs were launched; `withdrawn`: manifests that went.
    `before`: an earlier answer by key; a unit of which nothing changed is taken from there, which keeps a look at
    thousands of files at rest cheap.
    """
    units: dict[tuple[str, str, int | None], Unit] = {}
    for row in rows:
        its = (row.volume, row.run, row.step)
        units.setdefault(its, Unit(*its)).rows.append(row)
    for (volume, run, step), committed in known:
        units.setdefault((volume, run, step), Unit(volume, run, step)).committed = committed
    runs: dict[tuple[str, str], list[Unit]] = defaultdict(list)
    for unit in units.values():
        runs[unit.volume, unit.run].append(unit)
    ordered = []
    for key in sorted(runs):
        members = sorted(runs[key], key=lambda unit: -1 if unit.step is None else unit.step)
        for unit in members:
            its = (unit.volume, unit.run, -1 if unit.step is None else unit.step)
            unit.launch = launches.get(its) if launches else None
            unit.went = withdrawn.get(its, unit.went) if withdrawn else unit.went
        members = _judge_run(members, policy_of[key], now, before or {}, node)
        ordered += members
    return ordered


def _judge_run(
    units: list[Unit], policy: Policy, now: float, before: Mapping[tuple[str, str, int | None], Unit], node: str
) -> list[Unit]:
    previous: frozenset[str] | None = None
    last: Before | None = None
    pointers: dict[int | None, FileRow] = {
        row.points_to: row for unit in units for row in unit.rows if row.points_to is not None
    }
    judged = []
    for fresh in units:
        kept = before.get(fresh.key)
        fresh.pointed = _written_before(fresh, pointers.get(fresh.step))
        fresh.policy, fresh.previous, fresh.before = policy, previous, last
        if kept is not None and kept.wake_at is None and _same(kept, fresh):
            unit = kept
        else:
            unit = fresh
            _judge(unit, policy, now, previous, node)
        judged.append(unit)
        if unit.step is not None and unit.restorable:
            previous, last = unit.names, parts.before_of(unit, node)
    judged = _in_order(judged)
    newer = False
    for unit in reversed(judged):
        unit.outlived = newer and unit.step is not None
        parts.give_up(unit, policy, now)
        newer = newer or (unit.step is not None and unit.restorable)
    return judged


def _in_order(units: list[Unit]) -> list[Unit]:
    """The newest last, and what the job has left behind before all others."""
    past = superseded([unit.written for unit in units if unit.written is not None and unit.restorable])
    for unit in units:
        unit.superseded = unit.step in past
    return sorted(units, key=lambda unit: (unit.step is not None, not unit.superseded)) if past else units


def _written_before(unit: Unit, pointer: FileRow | None) -> bool:
    """By the files' own times, which are true also for what was written while nobody looked."""
    if pointer is None or not pointer.closed:
        return False
    return all(row.attributes.mtime_ns <= pointer.attributes.mtime_ns for row in unit.rows)


def _same(kept: Unit, fresh: Unit) -> bool:
    """Rows and manifests are replaced, never changed, so the same objects mean the same content."""
    return (
        kept.committed is fresh.committed
        and kept.policy == fresh.policy
        and kept.previous == fresh.previous
        and kept.before == fresh.before
        and kept.launch == fresh.launch
        and kept.went == fresh.went
        and kept.pointed == fresh.pointed
        and len(kept.rows) == len(fresh.rows)
        and all(old is new for old, new in zip(kept.rows, fresh.rows, strict=True))
    )


def _judge(unit: Unit, policy: Policy, now: float, previous: frozenset[str] | None, node: str) -> None:
    if unit.step is None:
        return
    members = _compare_with_manifest(unit)
    unit.names = names_of(members)
    files = [(row.size, row.attributes.mtime_ns) for row in unit.rows]
    files += [(entry.size, entry.attributes.mtime_ns) for entry in unit.cold.values()]
    unit.written = Written.of(unit.step, files)
    parts.divide(unit, members, policy, now, node)
    if unit.manifest_current and unit.committed is not None and unit.committed.whole:
        manifest = unit.committed.first
        unit.state, unit.framework, unit.root = CheckpointState.COMMITTED, manifest.framework, manifest.root
    elif (elsewhere := _committed_anew_by(unit, node)) is not None:
        unit.state, unit.root = CheckpointState.TORN, root_of([row.path for row in unit.rows])
        unit.reason = (
            f"node {elsewhere} committed this step anew, what lies here is older: "
            f"ckptctl rm {unit.run}@{unit.step}, then prefetch"
        )
    elif unit.committed is not None and unit.committed.quarantined and not _replaceable(unit, node):
        manifest = unit.committed.first
        unit.state, unit.framework, unit.root = CheckpointState.TORN, manifest.framework, manifest.root
        unit.reason = "; ".join(dict.fromkeys(note.reason for note in unit.committed.quarantined.values()))
    elif parts.is_part(unit):
        parts.judge_part(unit, members, now, policy.settle_s, node)
        _note_lost(unit)
    else:
        committed_at = None if unit.committed is None else unit.committed.committed_at
        said = judge(
            members,
            now=now,
            settle_s=policy.settle_s,
            previous=previous,
            committed_at=committed_at,
            pointed=unit.pointed,
        )
        _apply(unit, said)


def _replaceable(unit: Unit, node: str) -> bool:
    """Its manifest is this node's alone, and what is bad in the remote lies here: it is restorable, and is sent again."""
    if unit.committed is None or set(unit.committed.by_node) != {node}:
        return False
    here = {row.path for row in unit.rows if row.local() is not None}
    return all(path_of(key) in here for note in unit.committed.quarantined.values() for key in note.keys)


def _committed_anew_by(unit: Unit, here: str) -> str | None:
    """The node whose manifest is younger than what differs from it here: the job went on there, and wrote the step again."""
    if unit.committed is None:
        return None
    for node, manifest in unit.committed.by_node.items():
        if node == here:
            continue  # by one clock, which may have been set back: what is here is the newer one
        entries = {entry.path: entry for entry in manifest.entries}
        differing = [row for row in unit.rows if row.path in entries and not matches(row, entries[row.path])]
        if differing and all(row.closed and row.changed_at < manifest.written_at for row in differing):
            return node
    return None


def _apply(unit: Unit, verdict: Verdict) -> None:
    unit.state, unit.reason, unit.framework = verdict.state, verdict.reason, verdict.framework
    unit.root, unit.wake_at = verdict.root, verdict.wake_at
    _note_lost(unit)


def _note_lost(unit: Unit) -> None:
    if unit.step is not None and (
        lost := [row.path for row in unit.rows if row.closed and row.link is None and not row.places]
    ):
        unit.state, unit.reason, unit.wake_at = CheckpointState.LOST, f"no copy is left of {', '.join(lost[:3])}", None


def _compare_with_manifest(unit: Unit) -> list[Member]:
    """Fills in `cold` and `manifest_current`; returns the members, the manifest's included."""
    members = [_member(row) for row in unit.rows]
    committed = unit.committed
    if committed is None:
        return members
    entries = committed.entries()
    paths = {row.path for row in unit.rows}
    unit.cold = {
        path: entry
        for path, entry in entries.items()
        if path not in paths and (entry.key not in committed.forgotten or not unit.rows)
    }
    unit.manifest_current = all(
        matches(row, entries.get(row.path)) for row in unit.rows if not locate(row.path).temporary
    )
    return members + [Member(path, True, None, committed.committed_at) for path in unit.cold]


def _member(row: FileRow) -> Member:
    # A closed file under a temporary name is either about to be renamed or what a dead writer left behind: as a defect it
    # keeps the checkpoint waiting while things move, and makes it torn when they do not any more.
    if locate(row.path).temporary:
        return Member(row.path, row.closed, "it still has its temporary name", row.changed_at)
    return Member(row.path, row.closed, row.defect, row.changed_at, row.requires)


def skipped(unit: Unit, policy: Policy, *, uploading: bool = False) -> bool:
    """`sync = latest` lets it go unuploaded."""
    return (
        policy.sync is Sync.LATEST
        and unit.outlived
        and unit.state is CheckpointState.COMPLETE
        and not unit.begun
        and not unit.asked_for
        and not uploading
    )
