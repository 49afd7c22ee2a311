"""What is let go for good: skipped checkpoints on this node, old ones in the remote."""

from __future__ import annotations

from collections.abc import Sequence

from ckptd.domain.model import CheckpointState
from ckptd.policy.actions import Abandon, Prune
from ckptd.policy.ranking import Standing
from ckptd.policy.snapshot import waits


def abandoned(standings: Sequence[Standing]) -> list[Abandon]:
    """Skipped by `sync = latest` (or pruned by another node, which `keep_remote` agrees with), beyond what is kept here, and a
    newer one is safe in the remote.
    """
    found: list[Abandon] = []
    for standing in standings:
        unit = standing.unit
        if (
            unit.step is not None
            and (standing.skipped or (standing.let_go and standing.beyond_remote))
            and standing.outlived
            and (not standing.kept or unit.state is CheckpointState.TORN)
            and unit.pinned is None
            and not unit.protected
            and not unit.busy
            and not any(file.busy for file in unit.worked_on)
            and unit.local
        ):
            found.append(Abandon(unit.volume, unit.run, unit.step))
    return found


def pruned(standings: Sequence[Standing], now: float) -> list[Prune]:
    """Oldest first. What a tier still holds stays in the remote: it would be an only copy, and go up again.

    Where several nodes write, one of them prunes (`UnitView.shared`), and the others follow when the manifests are gone.
    """
    found: list[Prune] = []
    for standing in reversed(standings):
        unit, policy = standing.unit, standing.unit.policy
        if (
            unit.step is not None
            and policy.keep_remote > 0
            and standing.committed_rank is not None
            and standing.committed_rank >= policy.keep_remote
            and not (policy.keep_every and unit.step % policy.keep_every == 0)
            and unit.manifest
            and unit.manifest_current
            and unit.pinned is None
            and not unit.protected
            and not unit.shared
            and unit.remote_ok
            and not unit.busy
            and not waits(unit.retry_at, now)
            and not unit.local
            and not any(file.busy for file in unit.worked_on)
        ):
            found.append(Prune(unit.volume, unit.run, unit.step))
    return found
