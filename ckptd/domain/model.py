"""Volumes, tiers, files, copies, checkpoints, operations. Sizes are bytes, times seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Place(StrEnum):
    """Where a copy can be."""

    RAM = "ram"
    NVME = "nvme"
    REMOTE = "remote"


TIERS = (Place.RAM, Place.NVME)
"""Fast local places, fastest first."""


class CheckpointState(StrEnum):
    WRITING = "writing"  # files are open, missing, or the settle time is not over
    COMPLETE = "complete"  # all files closed and its framework (or the settle time) says it is whole; restorable here
    COMMITTED = "committed"  # complete, all files durable, manifest in the remote; restorable anywhere
    TORN = "torn"  # its writer stopped half way; shown, never offered
    LOST = "lost"  # at least one file has no whole copy anywhere any more


RESTORABLE = frozenset({CheckpointState.COMPLETE, CheckpointState.COMMITTED})


@dataclass(frozen=True, slots=True)
class Stamp:
    """What identifies a file's content without reading it. Equal stamps before and after a read: it did not change."""

    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Checksums:
    """CRC-64/NVME of a file, part by part and combined."""

    size: int
    part_size: int
    """Every part but the last has this length; a file of 0 bytes has no part."""
    parts: tuple[int, ...]
    whole: int


@dataclass(frozen=True, slots=True)
class PartDone:
    """A part that the other side has acknowledged."""

    number: int
    """From 1."""
    size: int
    tag: str
    crc64nvme: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A transfer that was begun; with it, another process goes on instead of starting again."""

    upload_id: str
    """The store's; "" for a download."""
    part_size: int
    size: int
    parts: tuple[PartDone, ...] = ()
    detail: str = ""
    """The transfer engine's own."""


@dataclass(frozen=True, slots=True)
class Attributes:
    mode: int
    """Permission bits only (`stat.S_IMODE`)."""
    uid: int
    gid: int
    mtime_ns: int


class OperationKind(StrEnum):
    PREFETCH = "prefetch"
    FLUSH = "flush"
    DRAIN = "drain"
    VERIFY = "verify"
    RESTORE = "restore"
    REMOVE = "remove"
    EVICT = "evict"
    SCRUB = "scrub"
    CHECKSUM = "checksum"


class OperationState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Operation:
    """Long work a user asked for."""

    id: int
    kind: OperationKind
    target: str
    """`RUN[@STEP]`, or the volume's name where everything is meant."""
    volume: str
    state: OperationState
    bytes_total: int
    bytes_done: int
    started_at: float
    finished_at: float | None = None
    error: str | None = None
    error_code: str | None = None
    """`code` of the CkptdError that ended it; decides the CLI's exit code."""
    hint: str = ""
    result: str | None = None
    """What a person wants to see at the end, e.g. the path that is hot now."""
    arguments: dict[str, str] = field(default_factory=dict)
    bytes_before: int = 0
    """Of `bytes_done`, what was done when it began: says nothing about its speed."""
    uid: int | None = None
    """Who asked for it; None: the daemon itself."""

    @property
    def deadline_at(self) -> float | None:
        """When it ends as TIMEOUT; None: never."""
        limit = self.arguments.get("timeout")
        return None if limit is None else self.started_at + float(limit)


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """A checkpoint as `ls` shows it (docs/cli.md)."""

    volume: str
    run: str
    step: int
    state: CheckpointState
    framework: str
    files: int
    bytes: int
    hot_bytes: int
    durable_bytes: int
    tiers: tuple[str, ...]
    pinned: bool
    path: str
    written_at: float
    committed_at: float | None
    reason: str = ""
    """Why it is torn or lost, or what it still waits for."""
    skipped: bool = False
    superseded: bool = False
    """The job went back to an earlier step and has gone on from there since."""
    """`sync = latest` let it go unuploaded because a newer one was complete first."""
    tags: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    """What keeps retention from letting it go: `tag:best`, `link:best.ckpt`, `pin`, `prefetch`, `every`, `flush`."""
    durable_after_s: float | None = None
    """From its last write to its manifest; None: not committed."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run as `ls` without arguments shows it."""

    volume: str
    run: str
    checkpoints: int
    """How many are known, whatever their state."""
    committed: int
    """How many of them are committed."""
    newest_step: int | None
    """None: files, but no checkpoint yet."""
    newest_state: CheckpointState | None
    bytes: int
    """Of all its checkpoints, wherever they are."""
    hot_bytes: int
    durable_bytes: int
    newest_restorable: int | None = None
    """The step that `latest` names; None: none is whole."""
    exposure: Exposure | None = None
    """What a node loss would cost the run now."""


@dataclass(frozen=True, slots=True)
class TagReport:
    """A name that somebody gave to a step."""

    volume: str
    run: str
    name: str
    step: int
    by: str
    """The node on which it was set."""
    at: float
    sent: bool
    """False: the remote does not know it yet, so other nodes do not either; it is told when it answers."""


@dataclass(frozen=True, slots=True)
class FileDifference:
    """A file of one checkpoint beside the same file of another."""

    name: str
    """Relative to the run, with what changes from step to step as `{n}`."""
    state: str
    """`equal`, `differs`, `only-one`, `only-other`, or `unchecked`: a checksum is missing."""
    one_bytes: int
    other_bytes: int
    equal_bytes: int
    differing_bytes: int
    """In parts whose checksums differ."""


@dataclass(frozen=True, slots=True)
class DiffReport:
    """Two checkpoints compared by the checksums of their files' parts."""

    volume: str
    one: str
    """`RUN@STEP`."""
    other: str
    files: tuple[FileDifference, ...]
    equal_bytes: int
    differing_bytes: int
    only_one_bytes: int
    only_other_bytes: int
    unchecked: int
    """Files of which a checksum is missing: the operation `checksum` takes it."""


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """What a user set for the runs that match a pattern."""

    volume: str
    pattern: str
    values: dict[str, str]
    """Keys and spelling of `[volumes.policy]`: `{"keep_hot": "2", "settle": "2s"}`; only what was set."""


@dataclass(frozen=True, slots=True)
class CheckpointPreview:
    """What a policy would do to one checkpoint."""

    step: int | None
    """None: a run's files of no checkpoint."""
    actions: tuple[str, ...]
    """`demote` (RAM to NVMe), `evict` (off this node), `abandon` (skipped by sync=latest: for good), `prune` (off the remote)."""
    freed: dict[str, int]
    """Bytes by `ram`, `nvme` and `remote`; negative where something comes in."""


@dataclass(frozen=True, slots=True)
class RunPreview:
    run: str
    checkpoints: tuple[CheckpointPreview, ...]
    """Those that something would happen to, oldest first."""

    @property
    def freed(self) -> dict[str, int]:
        places = sorted({place for one in self.checkpoints for place in one.freed})
        return {place: sum(one.freed.get(place, 0) for one in self.checkpoints) for place in places}


@dataclass(frozen=True, slots=True)
class PolicyPreview:
    """What would go now if a policy were set."""

    volume: str
    pattern: str
    values: dict[str, str]
    """All that would be set for the pattern."""
    runs: tuple[RunPreview, ...]
    """Those that something would happen to."""

    @property
    def freed(self) -> dict[str, int]:
        places = sorted({place for run in self.runs for place in run.freed})
        return {place: sum(run.freed.get(place, 0) for run in self.runs) for place in places}


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What holds for one run after all patterns and defaults were merged, key by key."""

    volume: str
    run: str
    values: dict[str, str]
    """Every key of `[volumes.policy]`."""
    sources: dict[str, str]
    """Where each value came from: a pattern, `config` or `default`."""


@dataclass(frozen=True, slots=True)
class VolumeReport:
    name: str
    path: str
    remote: str
    front: str
    passthrough: bool
    """The kernel moves the bytes of a mount by itself."""
    front_reason: str
    """Why it is not the other front, or why not passthrough; "" where there is nothing to say."""
    remote_ok: bool
    remote_error: str
    remote_since: float | None
    """When the remote became unreachable; None while it is fine."""
    runs: int
    checkpoints: int


@dataclass(frozen=True, slots=True)
class TierReport:
    name: str
    path: str
    budget_bytes: int
    effective_budget_bytes: int
    """Below `budget_bytes` while memory pressure shrinks the tier."""
    used_bytes: int
    pinned_bytes: int
    huge_pages: bool


@dataclass(frozen=True, slots=True)
class Exposure:
    bytes: int
    files: int
    oldest_s: float | None


@dataclass(frozen=True, slots=True)
class TransferReport:
    upload_bytes_per_s: float
    download_bytes_per_s: float
    queued_bytes: int
    sent_bytes: int = 0
    """Of files, confirmed by the remotes since the worker started."""
    copied_bytes: int = 0
    """The same, but copied inside the remote from the checkpoint before instead of being sent."""


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """The background check of copies at rest."""

    every_s: float = 0.0
    """Each copy is read once in so many seconds; 0: only when asked for."""
    active: bool = False
    """It reads now (or waits for its turn, or its pace)."""
    due_files: int = 0
    """Copies that are to be read now."""
    due_bytes: int = 0
    checked_files: int = 0
    """Copies read and found good since the worker started."""
    checked_bytes: int = 0
    bad: int = 0
    """Bad copies found since the worker started."""


@dataclass(frozen=True, slots=True)
class EventRecord:
    id: int
    at: float
    level: str
    """`info`, `warning` or `error`."""
    event: str
    """Stable name, e.g. `checkpoint.committed`."""
    message: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class NodeReport:
    """`status`."""

    version: str
    node: str
    pid: int
    uptime_s: float
    restarts: int
    volumes: tuple[VolumeReport, ...]
    tiers: tuple[TierReport, ...]
    exposure: Exposure
    transfers: TransferReport
    operations: tuple[Operation, ...]
    trouble: tuple[EventRecord, ...]
    """The newest warnings and errors."""
    scrub: ScrubReport = field(default_factory=ScrubReport)
    supervisor_pid: int = 0
    """The process that goes last when the daemon stops; `pid` is the worker's. 0: there is none."""
    state_dir: str = ""
    """Where catalog and log are."""


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """The answer to a request to go on with the code that is installed now."""

    before: str
    after: str
    """Versions."""
    mounts: bool
    """The servers of mounts are replaced too; False where their state is of another form."""


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """The answer to a request to stop."""

    exposure: Exposure
    """What a loss of the node would cost at this moment."""
    operation: Operation | None
    """The flush that has to be done before the daemon stops; None: it stops at once."""
