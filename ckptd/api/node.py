"""What the API asks of the daemon. The engine implements it; tests script it.

`volume` is None where the caller named none: the only volume is meant, and with several served `UsageError` lists
them (lists of runs then cover all volumes). Unknown volumes, runs, checkpoints and operations raise `NotKnown` naming
the thing.
Names are relative paths as in `ckptd.domain.names` (surrogates allowed): the API does the translation to keys.

The daemon's own node does whatever it is asked. Callers reach it through `guard.Guarded`, which decides for each method here
what one may see and do; `by` is who asks: what is limited is limited for those who are no administrators.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from ckptd.domain.access import Identity, Whose
from ckptd.domain.history import RunAccount
from ckptd.domain.launch import JobRun
from ckptd.domain.model import (
    CheckpointReport,
    DiffReport,
    EffectivePolicy,
    EventRecord,
    NodeReport,
    Operation,
    OperationKind,
    PolicyPreview,
    PolicyRow,
    RunReport,
    ShutdownReport,
    TagReport,
    UpgradeReport,
)
from ckptd.domain.names import CheckpointId

RunKey = tuple[str, str]
"""Volume and run."""


class Node(Protocol):
    async def whose(
        self, volume: str | None, run: str | None = None, *, afresh: bool = False
    ) -> Mapping[RunKey, Whose]:
        """Whose the runs are that are known, or the one that is named: nothing for one that is not known.

        `afresh`: looks into the remote for it first.
        """
        ...

    async def report(self) -> NodeReport: ...

    async def runs(self, volume: str | None) -> list[RunReport]:
        """By volume and name."""
        ...

    async def checkpoints(self, volume: str | None, run: str) -> list[CheckpointReport]:
        """Newest step first."""
        ...

    async def latest(self, volume: str | None, run: str) -> CheckpointReport:
        """The newest restorable one; NotKnown when there is none."""
        ...

    async def account(self, volume: str | None, run: str, gpus: int | None, mtbf_s: float) -> RunAccount:
        """What was measured of a run on this node, and what its remote alone would have taken."""
        ...

    async def start(
        self, kind: OperationKind, volume: str | None, target: CheckpointId | None, arguments: Mapping[str, str],
        *, by: Identity,
    ) -> Operation:  # fmt: skip
        """Starts work and returns at once; already finished where there was nothing to do.

        Refuses before it starts what cannot be: NotKnown, IntegrityError for a torn step, OnlyCopy, NoRoom, UsageError, TooMuch.
        `target` is None for a flush of the whole volume (of all volumes when `volume` is None too).
        Arguments, absent when not asked for: seconds are decimal numbers, flags are `"true"`.
        prefetch: `to` (`ram`|`nvme`, always there), `match`, `ttl`, `timeout`; flush: `timeout`;
        verify: `remote`; restore: `dest` (absolute path); remove: `remote`, `force`; evict: `force`.
        """
        ...

    async def operation(self, operation: int) -> Operation: ...

    async def operations(self) -> list[Operation]:
        """Running ones and the recently finished, oldest first."""
        ...

    async def cancel(self, operation: int) -> Operation:
        """Asks a running operation to stop; a finished one is returned as it is."""
        ...

    def follow(self, operation: int) -> AsyncIterator[Operation]:
        """The present state at once, then on change; ends after the final one. An async generator: NotKnown is raised
        by the first step.
        """
        ...

    async def pin(
        self, volume: str | None, target: CheckpointId, on: bool, *, by: Identity, temporary: bool = False
    ) -> CheckpointReport:
        """`temporary`: takes back no pin but one that ends by itself."""
        ...

    async def tags(self, volume: str | None, run: str | None) -> list[TagReport]:
        """By run and name; of all runs when none is named."""
        ...

    async def set_tag(self, volume: str | None, target: CheckpointId, name: str, *, by: Identity) -> TagReport:
        """Sets it, or moves it there; without a step: the newest restorable one. IntegrityError for a torn step."""
        ...

    async def delete_tag(self, volume: str | None, run: str, name: str) -> None:
        """An absent one is fine."""
        ...

    async def diff(self, volume: str | None, one: CheckpointId, other: CheckpointId) -> DiffReport:
        """From checksums that are known: nothing is read."""
        ...

    async def policies(self, volume: str | None) -> list[PolicyRow]:
        """In the order in which they apply, the most specific last."""
        ...

    async def effective_policy(self, volume: str | None, run: str) -> EffectivePolicy:
        """Also for a run that does not exist yet."""
        ...

    async def set_policy(
        self, volume: str | None, pattern: str, values: Mapping[str, str], *, by: Identity
    ) -> PolicyRow:
        """Adds or replaces the given keys of the pattern. UsageError names an unknown key or a bad value."""
        ...

    async def preview_policy(self, volume: str | None, pattern: str, values: Mapping[str, str]) -> PolicyPreview:
        """What `set_policy` with the same arguments would let go. Changes nothing."""
        ...

    async def unset_policy(self, volume: str | None, pattern: str) -> None: ...

    async def jobs(self, uid: int, everywhere: bool) -> list[JobRun]:
        """Runs that jobs of this user wrote here, the last written first; `everywhere`: and, committed, on other nodes."""
        ...

    async def job_ended(self, job: int, uid: int, runs: Sequence[tuple[str, str]]) -> list[RunReport]:
        """Records as an event what of these runs (volume and name) is durable; those that are not known are left out."""
        ...

    async def events(self, after: int, limit: int) -> list[EventRecord]:
        """At most `limit` records with an id above `after`, newest last; the newest `limit` ones when `after` is 0."""
        ...

    def follow_events(self, after: int) -> AsyncIterator[EventRecord]:
        """All records with an id above `after`, then new ones as they come; never ends by itself."""
        ...

    async def shutdown(self, flush: bool, timeout: float | None, evict: bool, force: bool) -> ShutdownReport:
        """Starts to stop the daemon and returns at once.

        With `flush` a flush operation runs first (every volume); the daemon stops after it is DONE, and goes on serving
        when it ends otherwise: failed, cancelled, or not done within `timeout` seconds (None: `node.shutdown_timeout`).
        Without, it stops right away.
        `evict` drops the tier copies of everything durable before the end, so that the node is left empty.
        Raises Busy, naming who it is, where somebody has a file of a mounted volume open (`force`: goes on all the same).
        """
        ...

    async def upgrade(self) -> UpgradeReport:
        """Begins to replace the daemon's processes by new ones that run the code which is installed now; returns before that.

        Raises CkptdError for code that cannot be loaded.
        """
        ...

    async def metrics(self) -> bytes:
        """Prometheus text format 0.0.4."""
        ...
