"""A checkpoint, or a run's loose files: the rows and manifests of one step, and what was derived from them (`units`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ckptd.catalog import FileRow
from ckptd.catalog.nodes import Withdrawal
from ckptd.domain.launch import Launch
from ckptd.domain.model import RESTORABLE, TIERS, CheckpointState, Place
from ckptd.engine.known import Committed
from ckptd.engine.matching import matches
from ckptd.engine.several import Before, Part
from ckptd.layouts import Member, locate, names_of
from ckptd.layouts.judge import PATIENCE
from ckptd.layouts.names import is_light
from ckptd.manifest import ManifestEntry
from ckptd.policy.policy import Policy, Sync
from ckptd.policy.snapshot import FileView, UnitView
from ckptd.policy.timeline import Written


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
    added: frozenset[str] = frozenset()
    """Paths that its manifest does not describe, where all that it describes is as it was."""
    addition: CheckpointState | None = None
    """How it stands with `added` in it; the checkpoint without them is COMMITTED. None: nothing was added."""
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
    kind: str | None = None
    """Which sort of checkpoint (`names.kind_of`); filled in when first asked for."""
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
    given_up: str | None = None
    """What was waited for when nobody was left who would bring it; None: it is not given up."""
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
    def owner(self) -> int:
        """The user whose files they are."""
        return self.rows[0].attributes.uid if self.rows else 0

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
            self.said_names = names_of(_written_with_it(self))
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
            exposed=tuple(
                row for row in files if not (row.durable or row.plain) and settled(row) and row.local() is not None
            ),
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


def members_of(unit: Unit) -> list[Member]:
    """The manifest's included."""
    at = 0.0 if unit.committed is None else unit.committed.committed_at
    members = [_member(row, row.path in unit.added) for row in unit.rows]
    return members + [Member(path, True, None, at) for path in unit.cold]


def added_to(unit: Unit) -> frozenset[str]:
    """Paths that its manifest does not describe, where all that it describes is as it was; of one node's alone."""
    committed = unit.committed
    if committed is None or committed.several or unit.manifest_current:
        return frozenset()
    entries = committed.entries()
    if not all(matches(row, entries[row.path]) for row in unit.rows if row.path in entries):
        return frozenset()
    return frozenset(row.path for row in unit.rows if not locate(row.path).temporary) - entries.keys()


def _written_with_it(unit: Unit) -> list[Member]:
    """Without small files that came long after the weights, and without what came after the commit: the next checkpoint need
    not be evaluated or converted already.
    """
    settle_s = 0.0 if unit.policy is None else unit.policy.settle_s
    members = members_of(unit)
    times = {row.path: row.attributes.mtime_ns for row in unit.rows}
    times |= {path: entry.attributes.mtime_ns for path, entry in unit.cold.items()}
    if unit.committed is not None and not unit.committed.several:
        until = int(unit.committed.committed_at * 1e9)
        members = [member for member in members if times[member.path] <= until] or members
    weights = [at for path, at in times.items() if not is_light(path)]
    if not weights or settle_s <= 0:
        return members
    until = max(weights) + int(PATIENCE * settle_s * 1e9)
    return [member for member in members if not is_light(member.path) or times[member.path] <= until]


def _member(row: FileRow, added: bool) -> Member:
    # A closed file under a temporary name is either about to be renamed or what a dead writer left behind: as a defect it
    # keeps the checkpoint waiting while things move, and makes it torn when they do not any more.
    if locate(row.path).temporary:
        return Member(row.path, row.closed, "it still has its temporary name", row.changed_at)
    return Member(row.path, row.closed, row.defect, row.changed_at, row.requires, added)


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
