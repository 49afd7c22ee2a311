"""Where each checkpoint stands among those of its run: the one input of every "newest N are kept" rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ckptd.domain.model import RESTORABLE, CheckpointState
from ckptd.policy.policy import Sync
from ckptd.policy.snapshot import UnitView


@dataclass(slots=True)
class Standing:
    """A unit with what follows from its neighbours. Never changed; not `frozen`, which makes making thousands twice as slow."""

    unit: UnitView
    rank: int | None = None
    """0: the newest complete or committed checkpoint of its run. None: not ranked (writing, torn, lost, loose)."""
    committed_rank: int | None = None
    """The same among committed ones only."""
    newer: int = 0
    """How many newer checkpoints of the run are committed."""
    outlived: bool = False
    """A newer checkpoint of the run is committed."""

    @property
    def name(self) -> tuple[str, str, int | None]:
        return (self.unit.volume, self.unit.run, self.unit.step)

    @property
    def kept(self) -> bool:
        """Policy wants it on this node."""
        policy = self.unit.policy
        return self.rank is None or self.rank < max(policy.keep_hot, policy.keep_nvme)

    @property
    def begun(self) -> bool:
        """Some of its present content reached the remote."""
        return self.unit.upload_begun or self.unit.partly_sent

    @property
    def skipped(self) -> bool:
        """`sync = latest` lets it go: it was superseded before its upload began."""
        unit = self.unit
        return (
            unit.policy.sync is Sync.LATEST
            and unit.step is not None
            and unit.state is CheckpointState.COMPLETE
            and self.rank != 0
            and not self.begun
            and not unit.asked_for
        )

    @property
    def let_go(self) -> bool:
        """Another node took its manifests away, and it is not to be sent again: the whole was not this node's alone, or
        policy would not keep it in the remote.
        """
        return self.unit.withdrawn and (self.unit.state is CheckpointState.TORN or self.beyond_remote)

    @property
    def beyond_remote(self) -> bool:
        """`keep_remote` and `keep_every` do not cover it."""
        unit, policy = self.unit, self.unit.policy
        every = unit.step is not None and policy.keep_every and unit.step % policy.keep_every == 0
        return bool(policy.keep_remote) and self.newer >= policy.keep_remote and not every

    @property
    def stale(self) -> bool:
        """A manifest of ours describes contents that are not the present ones."""
        return self.unit.manifest and not self.unit.manifest_current


def standings(units: Sequence[UnitView]) -> list[Standing]:
    """In a fixed order, whatever order the units came in."""
    runs: dict[tuple[str, str], list[UnitView]] = {}
    for unit in units:
        runs.setdefault((unit.volume, unit.run), []).append(unit)
    found: list[Standing] = []
    for key in sorted(runs):
        found.extend(_of_run(runs[key]))
    return found


def _of_run(units: list[UnitView]) -> list[Standing]:
    """Loose files first, then steps, newest first."""
    found = [Standing(unit) for unit in units if unit.step is None]
    ranked = committed = 0
    for unit in sorted((u for u in units if u.step is not None), key=_age, reverse=True):
        is_committed = unit.state is CheckpointState.COMMITTED
        is_ranked = unit.state in RESTORABLE
        rank, committed_rank = ranked if is_ranked else None, committed if is_committed else None
        found.append(Standing(unit, rank, committed_rank, newer=committed, outlived=committed > 0))
        ranked += is_ranked
        committed += is_committed
    return found


def _age(unit: UnitView) -> tuple[bool, int]:
    return not unit.superseded, -1 if unit.step is None else unit.step
