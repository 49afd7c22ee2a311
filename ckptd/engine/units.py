"""What the rows mean: checkpoints with their states. Pure; everything here is derived anew from rows and manifests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ckptd.catalog import FileRow, UnitName
from ckptd.catalog.nodes import Withdrawal
from ckptd.domain.launch import Launch
from ckptd.domain.model import RESTORABLE, TIERS, CheckpointState, Place
from ckptd.domain.names import path_of
from ckptd.engine import parts
from ckptd.engine.known import Committed, UnitKey
from ckptd.engine.matching import matches
from ckptd.engine.several import Before, Part
from ckptd.layouts import Member, Verdict, judge, locate, names_of
from ckptd.layouts.judge import root_of
from ckptd.layouts.names import kind_of
from ckptd.manifest import ManifestEntry
from ckptd.policy.policy import Policy, Sync
from ckptd.policy.snapshot import FileView, UnitView
from ckptd.policy.timeline import Written, superseded


@dataclass(slots=True)
class Unit:
    """A checkpoint, or (step None) a run's loose files."""

    volume: str
    run: str
    step: int | None
    rows: Sequence[FileRow] = field(default_factory=list)
    """By id. Never changed, always replaced, as they and `committed` are: the same objects mean that nothing changed."""
    committed: Committed | None = None
    absent: dict[str, ManifestEntry] = field(default_factory=dict)
    """Where there are rows too: members that only the manifest describes, by path."""
    state: CheckpointState = CheckpointState.WRITING
    reason: str = ""
    framework: str = ""
    root: str = ""
    wake_at: float | None = None
    manifest_current: bool = False
    policy: Policy | None = None
    previous: Unit | None = None
    """The complete checkpoint of its kind before it, by which it was judged if it is not committed."""
    pointed: bool = False
    """A pointer of the run that is younger than its files names it."""
    idle: tuple[FileView, ...] | None = None
    """Its files as the planner sees them while nothing is done to them; filled in when first asked for."""
    seen: tuple[object, UnitView] | None = None
    """What the planner was shown last, and what that depended on besides the unit itself."""
    sums: _Sums | None = None
    said_names: frozenset[str] | None = None
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
    def all_cold(self) -> bool:
        """Only its manifests speak of it: what they say together is not asked for before it is needed."""
        return not self.rows and self.committed is not None

    @property
    def cold(self) -> dict[str, ManifestEntry]:
        """Members that only the manifest describes, by path."""
        return self.committed.entries() if self.committed is not None and not self.rows else self.absent

    @property
    def cold_bytes(self) -> int:
        if self.committed is not None and not self.rows:
            return self.committed.bytes
        return sum(entry.size for entry in self.absent.values())

    @property
    def files(self) -> int:
        if self.committed is not None and not self.rows:
            return self.committed.files
        return len(self.rows) + len(self.absent)

    @property
    def bytes(self) -> int:
        return self.summed.bytes + self.cold_bytes

    @property
    def hot_bytes(self) -> int:
        return self.summed.hot

    @property
    def durable_bytes(self) -> int:
        return self.summed.durable + self.cold_bytes

    @property
    def hot(self) -> bool:
        return not self.all_cold and not self.absent and all(row.link is not None or row.local() for row in self.rows)

    @property
    def names(self) -> frozenset[str]:
        """Of its members, comparable between steps."""
        if self.said_names is None:
            self.said_names = names_of(_members(self))
        return self.said_names

    @property
    def summed(self) -> _Sums:
        if self.sums is None:
            self.sums = _Sums.of(self.rows)
        return self.sums

    @property
    def exposed(self) -> Sequence[FileRow]:
        """Files that are acknowledged but not durable."""
        return self.summed.exposed

    @property
    def open_rows(self) -> Sequence[FileRow]:
        return self.summed.open

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
            return self.summed.changed_at
        return self.committed.first.written_at if self.committed else 0.0

    @property
    def begun(self) -> bool:
        """Some of its present content is in the remote."""
        return self.summed.begun


@dataclass(frozen=True, slots=True)
class _Sums:
    """What is asked for again and again about rows, at every look and of every checkpoint."""

    bytes: int
    hot: int
    durable: int
    changed_at: float
    begun: bool
    exposed: Sequence[FileRow]
    open: Sequence[FileRow]
    pointers: Sequence[FileRow]
    held: Mapping[Place, int]
    """Bytes of whole copies by tier, stale ones too: they lie there."""
    opened: Mapping[Place, int]
    """… of open files of which the tier has no copy yet."""

    @classmethod
    def of(cls, rows: Sequence[FileRow]) -> _Sums:
        files = [row for row in rows if row.link is None]
        opened = [row for row in rows if not row.closed]
        return cls(
            bytes=sum(row.size for row in rows),
            hot=sum(row.size for row in rows if row.local() is not None),
            durable=sum(row.size for row in rows if row.durable),
            changed_at=max((row.changed_at for row in rows), default=0.0),
            begun=any(row.durable for row in files),
            exposed=tuple(row for row in files if not row.durable and settled(row) and row.local() is not None),
            open=tuple(opened),
            pointers=tuple(row for row in rows if row.points_to is not None),
            held={place: sum(row.size for row in files if place in row.copies) for place in TIERS},
            opened={
                place: sum(row.size for row in opened if row.link is None and place not in row.copies)
                for place in TIERS
            },
        )


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
    grouped: dict[UnitName, list[FileRow]] = defaultdict(list)
    for row in rows:
        grouped[row.unit].append(row)
    return assemble_units(grouped, known, policy_of, now, before, node=node, launches=launches, withdrawn=withdrawn)


def assemble_units(
    rows: Mapping[UnitName, Sequence[FileRow]],
    known: Iterable[tuple[UnitKey, Committed]],
    policy_of: Mapping[tuple[str, str], Policy],
    now: float,
    before: Mapping[UnitName, Unit] | None = None,
    *,
    node: str = "",
    launches: Mapping[UnitKey, Launch] | None = None,
    withdrawn: Mapping[UnitKey, Mapping[str, Withdrawal]] | None = None,
) -> list[Unit]:
    """The same of rows by unit. Where the rows of a unit are the same object as in `before`, they are not looked at."""
    committed: dict[UnitName, Committed] = dict(known)
    runs: dict[tuple[str, str], list[UnitName]] = defaultdict(list)
    for name in {**rows, **committed}:
        runs[name[:2]].append(name)
    ordered = []
    for key in sorted(runs):
        names = sorted(runs[key], key=lambda name: -1 if name[2] is None else name[2])
        units = [Unit(*name, rows.get(name, ()), committed.get(name)) for name in names]
        for unit in units:
            if (kept := before.get(unit.key) if before else None) is not None and kept.rows is unit.rows:
                unit.sums = kept.sums
            its = (unit.volume, unit.run, -1 if unit.step is None else unit.step)
            unit.launch = launches.get(its) if launches else None
            unit.went = withdrawn.get(its, unit.went) if withdrawn else unit.went
        ordered += _judge_run(units, policy_of[key], now, before or {}, node)
    return ordered


def _judge_run(units: list[Unit], policy: Policy, now: float, before: Mapping[UnitName, Unit], node: str) -> list[Unit]:
    previous: dict[str, Unit] = {}
    last: Before | None = None
    pointers: dict[int | None, FileRow] = {row.points_to: row for unit in units for row in unit.summed.pointers}
    judged = []
    for fresh in units:
        kept = before.get(fresh.key)
        fresh.pointed = _written_before(fresh, pointers.get(fresh.step))
        kind = _kind(fresh)
        fresh.policy, fresh.previous, fresh.before = policy, previous.get(kind), last
        if kept is not None and kept.wake_at is None and _same(kept, fresh):
            unit = kept
            unit.previous = fresh.previous  # with the same names as the old one, which is not to be kept for ever
        else:
            unit = fresh
            _judge(unit, policy, now, node)
        judged.append(unit)
        if unit.step is not None and unit.restorable:
            previous[kind], last = unit, parts.before_of(unit, node)
    judged = _in_order(judged)
    newer = False
    for unit in reversed(judged):
        unit.outlived = newer and unit.step is not None
        parts.give_up(unit, policy, now)
        newer = newer or (unit.step is not None and unit.restorable)
    return judged


def _kind(unit: Unit) -> str:
    """One run may hold checkpoints of several sorts; what the one has, the other need not have."""
    if unit.rows:
        return kind_of(unit.rows[0].path)
    return kind_of(path_of(unit.committed.first.root)) if unit.committed is not None else ""


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
        and kept.before == fresh.before
        and kept.launch == fresh.launch
        and kept.went == fresh.went
        and kept.pointed == fresh.pointed
        and (
            kept.rows is fresh.rows
            or (
                len(kept.rows) == len(fresh.rows)
                and all(old is new for old, new in zip(kept.rows, fresh.rows, strict=True))
            )
        )
        and (kept.state is CheckpointState.COMMITTED or _same_names(kept.previous, fresh.previous))
    )


def _same_names(one: Unit | None, other: Unit | None) -> bool:
    return one is other or (one is not None and other is not None and one.names == other.names)


def _judge(unit: Unit, policy: Policy, now: float, node: str) -> None:
    if unit.step is None:
        return
    _compare_with_manifest(unit)
    unit.written = _written(unit, unit.step)
    members: Sequence[Member] = ()
    if unit.all_cold or (unit.manifest_current and unit.committed is not None and not unit.committed.several):
        unit.mine = tuple(unit.rows)
        unit.part_committed = unit.committed is not None and unit.committed.several and node in unit.committed.fitting
    else:
        members = _members(unit)
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
        parts.judge_part(unit, members or _members(unit), now, policy.settle_s, node)
        _note_lost(unit)
    else:
        committed_at = None if unit.committed is None else unit.committed.committed_at
        said = judge(
            members or _members(unit),
            now=now,
            settle_s=policy.settle_s,
            previous=None if unit.previous is None else unit.previous.names,
            committed_at=committed_at,
            pointed=unit.pointed,
        )
        _apply(unit, said)


def _written(unit: Unit, step: int) -> Written | None:
    if unit.all_cold and unit.committed is not None and (times := unit.committed.times) is not None:
        return Written(step, *times)
    files = [(row.size, row.attributes.mtime_ns) for row in unit.rows]
    files += [(entry.size, entry.attributes.mtime_ns) for entry in unit.cold.values()]
    return Written.of(step, files)


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


def _compare_with_manifest(unit: Unit) -> None:
    """Fills in `absent` and `manifest_current`."""
    committed = unit.committed
    if committed is None:
        return
    if not unit.rows:
        unit.manifest_current = True
        return
    entries = committed.entries()
    paths = {row.path for row in unit.rows}
    unit.absent = {
        path: entry for path, entry in entries.items() if path not in paths and entry.key not in committed.forgotten
    }
    unit.manifest_current = all(
        matches(row, entries.get(row.path)) for row in unit.rows if not locate(row.path).temporary
    )


def _members(unit: Unit) -> list[Member]:
    """The manifest's included."""
    at = 0.0 if unit.committed is None else unit.committed.committed_at
    return [_member(row) for row in unit.rows] + [Member(path, True, None, at) for path in unit.cold]


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
