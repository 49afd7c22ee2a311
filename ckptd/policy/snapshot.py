"""What the planner sees: the state of a node at one moment, as plain values.

A *unit* is what is decided about together: a checkpoint, or (step None) a run's files that belong to no step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ckptd.domain.model import TIERS, CheckpointState, Place
from ckptd.policy.policy import Policy

LONGEST_WAIT_S = 600.0
"""No backoff is longer. A `retry_at` further away was written before the clock jumped back, and does not count."""


def waits(retry_at: float, now: float) -> bool:
    return now < retry_at <= now + LONGEST_WAIT_S


@dataclass(frozen=True, slots=True)
class FileView:
    id: int
    size: int
    """Bytes it occupies."""
    generation: int
    """Counts contents: what was uploaded of an older generation is not a copy of this one."""
    settled: bool
    """Closed by its writer under a name that is not temporary."""
    copies: frozenset[Place]
    """Where whole copies of *this generation* are; REMOTE only when the store has confirmed size and checksum."""
    busy: bool = False
    """An action on it is running, or the job holds it open in a way that forbids moving it."""
    uploading: bool = False
    """Its upload is running (then it is busy too)."""
    moving_to: Place | None = None
    """The tier a running move writes it to; its bytes are counted there already (`TierView.used`)."""
    leaving: bool = False
    """A running action frees its tier copies (then it is busy too): what it occupies counts as good as free."""
    retry_at: float = 0.0
    """Not to be tried again before this time (backoff after a failure)."""
    move_retry_at: float = 0.0
    """The same for moves between tiers and evictions: a remote that is down must not keep files from being demoted."""
    left_over: bool = False
    """Under a temporary name in a checkpoint that is whole without it (its writer died, another one went on): not sent."""
    open: bool = False
    """Its writer has it open."""
    last: bool = False
    """A marker or pointer: uploaded after all the others of its unit."""
    closed_at: float = 0.0
    points_to: int | None = None
    """The step that a pointer (`latest`) names: it is sent once that one is committed."""


@dataclass(frozen=True)
class UnitView:
    volume: str
    run: str
    step: int | None
    state: CheckpointState
    """For a unit without step: WRITING (loose files are never committed)."""
    files: tuple[FileView, ...]
    policy: Policy
    protected: bool = False
    """A tag, a link of the job's (`best`) or a flush by name: neither pruned nor abandoned."""
    asked_for: bool = False
    """A tag or a flush by name: `sync = latest` does not skip it."""
    pinned: Place | None = None
    """Wanted in this tier whatever the policy says (pin, or a prefetch whose ttl is not over)."""
    manifest: bool = False
    """A manifest of ours is in the remote, of these contents or of older ones."""
    manifest_current: bool = False
    """… and it describes exactly these contents."""
    upload_begun: bool = False
    """At least one byte of the present contents was sent (decides what `sync = latest` may skip)."""
    remote_ok: bool = True
    """False while the remote is known to be unreachable: nothing that needs it is planned except one trial."""
    busy: bool = False
    """A commit, uncommit or prune of it is running."""
    retry_at: float = 0.0
    completed_at: float | None = None
    superseded: bool = False
    """The job has gone back to an earlier step since: it stands behind all others of its run."""
    part: bool = False
    """Its files are all there, and are a part of a checkpoint that several nodes write: sent and committed as such, though
    the whole is still WRITING.
    """
    part_committed: bool = False
    """… and this node's manifest describes them."""
    withdrawn: bool = False
    """Another node took this node's manifest of exactly these contents away."""
    owner: int = 0
    """The user whose files they are."""
    foreign: bool = False
    """The run's directory here is another user's than the run that the remote has by this name: nothing of it is sent."""
    shared: bool = False
    """Another node is to prune it: the first by name of those that wrote the run's newest committed checkpoint does."""

    # What follows from the files is kept with the value: the same unit is planned for again and again while it is at rest.

    @cached_property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    @cached_property
    def closed_at(self) -> float:
        """When the last of its files was closed; 0.0 without files."""
        return max((file.closed_at for file in self.files), default=0.0)

    @cached_property
    def to_send(self) -> tuple[FileView, ...]:
        """Files without a copy in the remote, but those that were left over."""
        return tuple(file for file in self.files if Place.REMOTE not in file.copies and not file.left_over)

    @cached_property
    def partly_sent(self) -> bool:
        return any(Place.REMOTE in file.copies for file in self.files)

    @cached_property
    def local(self) -> tuple[FileView, ...]:
        """Files with a copy in a tier."""
        return tuple(file for file in self.files if any(tier in file.copies for tier in TIERS))

    @cached_property
    def worked_on(self) -> tuple[FileView, ...]:
        """Files that an action is running on."""
        return tuple(file for file in self.files if file.busy or file.uploading or file.leaving or file.moving_to)

    @cached_property
    def open(self) -> bool:
        """A writer has a file of it open."""
        return any(file.open for file in self.files)


@dataclass(frozen=True, slots=True)
class TierView:
    place: Place
    budget: int
    """Effective bytes: the configured budget, or less under memory pressure."""
    used: int
    """Bytes of all files in it, of files being written, and of moves into it that are running."""
    reserve: int = 0
    """Bytes to keep free for saves to come (what the next checkpoint is expected to weigh)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    units: tuple[UnitView, ...]
    tiers: tuple[TierView, ...]
    user_budget: int = 0
    """Bytes that the units of one owner may take in RAM; 0: as many as there are."""
    draining: bool = False
    """The node is about to end: what is worth most goes to the remote first."""
