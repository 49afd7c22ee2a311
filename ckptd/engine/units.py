"""What the rows mean: checkpoints with their states. Pure; everything here is derived anew from rows and manifests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ckptd.catalog import FileRow
from ckptd.domain.model import RESTORABLE, CheckpointState, Place
from ckptd.domain.names import path_of
from ckptd.engine.known import Committed, UnitKey
from ckptd.layouts import Member, Verdict, judge, locate, names_of
from ckptd.layouts.judge import root_of
from ckptd.manifest import ManifestEntry
from ckptd.policy.policy import Policy, Sync
from ckptd.policy.snapshot import FileView


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
    idle: tuple[FileView, ...] | None = None
    """Its files as the planner sees them while nothing is done to them; filled in when first asked for."""
    superseded: bool = False
    """A newer checkpoint of the run is complete or committed."""
    links: tuple[tuple[str, str | int], ...] | None = None
    """The job's symbolic links with their targets, its pointer files with the steps they name; filled in when first asked for."""
    protected: tuple[str, ...] = ()
    """Which tags, links and flushes keep it from being let go (`engine.protecting`)."""
    asked_for: bool = False
    """A tag or a flush names it: `sync = latest` does not skip it."""

    @property
    def key(self) -> tuple[str, str, int | None]:
        return self.volume, self.run, self.step

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
            return self.committed.first.written_at  # rows made by a prefetch are younger than what they hold
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
) -> list[Unit]:
    """Units by volume and run, in each run by step (loose files first).

    `node`: whose rows these are. `before`: an earlier answer by key; a unit of which nothing changed is taken from there,
    which keeps a look at thousands of files at rest cheap.
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
        members = _judge_run(members, policy_of[key], now, before or {}, node)
        ordered += members
    return ordered


def _judge_run(
    units: list[Unit], policy: Policy, now: float, before: Mapping[tuple[str, str, int | None], Unit], node: str
) -> list[Unit]:
    previous: frozenset[str] | None = None
    judged = []
    for fresh in units:
        kept = before.get(fresh.key)
        fresh.policy, fresh.previous = policy, previous
        if kept is not None and kept.wake_at is None and _same(kept, fresh):
            unit = kept
        else:
            unit = fresh
            _judge(unit, policy, now, previous, node)
        judged.append(unit)
        if unit.step is not None and unit.restorable:
            previous = unit.names
    newer = False
    for unit in reversed(judged):
        unit.superseded = newer and unit.step is not None
        newer = newer or (unit.step is not None and unit.restorable)
    return judged


def _same(kept: Unit, fresh: Unit) -> bool:
    """Rows and manifests are replaced, never changed, so the same objects mean the same content."""
    return (
        kept.committed is fresh.committed
        and kept.policy == fresh.policy
        and kept.previous == fresh.previous
        and len(kept.rows) == len(fresh.rows)
        and all(old is new for old, new in zip(kept.rows, fresh.rows, strict=True))
    )


def _judge(unit: Unit, policy: Policy, now: float, previous: frozenset[str] | None, node: str) -> None:
    if unit.step is None:
        return
    members = _compare_with_manifest(unit)
    unit.names = names_of(members)
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
    else:
        committed_at = None if unit.committed is None else unit.committed.committed_at
        said = judge(members, now=now, settle_s=policy.settle_s, previous=previous, committed_at=committed_at)
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


def matches(row: FileRow, entry: ManifestEntry | None) -> bool:
    """Whether the row's present content is what the manifest describes."""
    if entry is None or not row.closed:
        return False
    if row.link is not None or entry.link is not None:
        return row.link == entry.link
    return (
        row.checksums is not None
        and entry.checksums is not None
        and row.checksums.whole == entry.checksums.whole
        and row.size == entry.size
    )


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
        and unit.superseded
        and unit.state is CheckpointState.COMPLETE
        and not unit.begun
        and not unit.asked_for
        and not uploading
    )
