"""`policy set --dry-run`: what would go with other values, by the same plan that would let it go. Nothing is changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from fnmatch import fnmatchcase

from ckptd.domain.model import CheckpointPreview, Place, PolicyPreview, RunPreview
from ckptd.engine import owning, policies, snapshot
from ckptd.engine.context import Context
from ckptd.engine.leaving import shared_keys
from ckptd.engine.reconciler import Reconciler
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume
from ckptd.policy.foresight import foresee


class Previewing:
    def __init__(self, context: Context, reconciler: Reconciler) -> None:
        self._context = context
        self._reconciler = reconciler

    async def preview(self, volume: Volume, pattern: str, values: Mapping[str, str]) -> PolicyPreview:
        """For the runs that match `pattern`. Raises UsageError for a value that does not work."""
        for key, value in values.items():
            policies.parse(key, value)
        policies.refuse_unheard(volume, values)
        catalog, context = self._context.catalog, self._context
        patterns = await owning.policies(context, volume)
        merged = patterns.get(pattern, {}) | dict(values)
        changed = {**patterns, pattern: merged}
        pins = await catalog.wishes.pins()
        begun = frozenset(int(key.split("/")[1]) for key in await catalog.journal.keys() if key.startswith("up/"))
        view = await self._reconciler.look()
        would_hold = {
            (name, run): policies.effective(volume.policy, changed, run) if name == volume.name else policy
            for (name, run), policy in view.policies.items()
        }
        units = {unit.key: unit for unit in view.units}
        found: dict[str, list[CheckpointPreview]] = defaultdict(list)
        for one in foresee(snapshot.take(context, view.units, pins, would_hold, begun), context.clock()):
            name, run, step = one.unit
            if name == volume.name and fnmatchcase(run, pattern):
                unit = units[one.unit]
                remote = self._in_remote(unit) if "prune" in one.actions else 0
                freed = {str(place): one.freed[place] for place in one.freed if place in context.tiers}
                found[run].append(CheckpointPreview(step, one.actions, {**freed, str(Place.REMOTE): remote}))
        runs = tuple(RunPreview(run, tuple(sorted(found[run], key=_newest_last))) for run in sorted(found))
        return PolicyPreview(volume.name, pattern, merged, runs)

    def _in_remote(self, unit: Unit) -> int:
        """What pruning it frees there: not what another checkpoint's manifest describes too."""
        sizes = {copy.location: row.size for row in unit.rows if (copy := row.copy(Place.REMOTE)) is not None}
        sizes |= {entry.key: entry.size for entry in unit.cold.values() if entry.link is None}
        for key in shared_keys(self._context, unit.volume, unit.run, unit.step, sizes):
            del sizes[key]
        return sum(sizes.values())


def _newest_last(checkpoint: CheckpointPreview) -> int:
    return -1 if checkpoint.step is None else checkpoint.step
