"""Jobs of the scheduler: what they wrote here, and what of it is durable when they end."""

from __future__ import annotations

from collections.abc import Sequence

from ckptd.domain.launch import JobRun
from ckptd.domain.model import Exposure, RunReport
from ckptd.engine import reporting
from ckptd.engine.context import Context
from ckptd.engine.reconciler import Reconciler


class Jobs:
    def __init__(self, context: Context, reconciler: Reconciler) -> None:
        self._context = context
        self._reconciler = reconciler

    async def of_user(self, uid: int, *, everywhere: bool) -> list[JobRun]:
        """The last written first. `everywhere`: what manifests say of other nodes, too."""
        here = await self._context.catalog.jobs.of_user(uid)
        if not everywhere:
            return here
        found = {(one.volume, one.run, one.job): one for one in self._described(uid)}
        found |= {(one.volume, one.run, one.job): one for one in here}
        return sorted(found.values(), key=lambda one: one.at, reverse=True)

    def _described(self, uid: int) -> list[JobRun]:
        """By the manifests that are known, the newest last."""
        manifests = [
            (volume, manifest)
            for (volume, _, _), committed in self._context.known.units()
            for manifest in committed.by_node.values()
            if manifest.job is not None and manifest.job.uid == uid
        ]
        manifests.sort(key=lambda one: one[1].written_at)
        return [JobRun(volume, one.run, one.job, one.written_at) for volume, one in manifests if one.job is not None]

    async def ended(self, job: int, uid: int, runs: Sequence[tuple[str, str]]) -> list[RunReport]:
        """Records what of these runs, by volume and name, is durable. Runs that are not known are left out."""
        view = await self._reconciler.look()
        found = [one for one in reporting.runs(view, self._context.clock(), None) if (one.volume, one.run) in runs]
        if not found:
            return []  # most jobs of a cluster write none: nothing to tell
        exposed = sum(_exposure(one).bytes for one in found)
        said = "; ".join(_said(one) for one in found)
        level = "warning" if any(_exposure(one).files for one in found) else "info"
        await self._context.event(
            level, "slurm.epilog", f"job {job} ended: {said}",
            job=job, uid=uid, runs=" ".join(one.run for one in found), exposed_bytes=exposed,
        )  # fmt: skip
        return found


def _exposure(run: RunReport) -> Exposure:
    return run.exposure or Exposure(0, 0, None)


def _said(run: RunReport) -> str:
    newest = "no whole checkpoint" if run.newest_restorable is None else f"newest {run.newest_restorable}"
    exposed = _exposure(run)
    if not exposed.files:
        return f"{run.run} is durable, {newest}"
    return f"{run.run} has {exposed.bytes} bytes in {exposed.files} files that are not durable yet, {newest}"
