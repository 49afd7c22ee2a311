"""What `status` and `ls` show, derived from the last look."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable

from ckptd.catalog import PinRow
from ckptd.domain.model import (
    CheckpointReport,
    CheckpointState,
    Exposure,
    NodeReport,
    Operation,
    RunReport,
    TierReport,
    VolumeReport,
)
from ckptd.domain.names import path_of
from ckptd.engine import protecting
from ckptd.engine.context import Context
from ckptd.engine.metrics import Counts
from ckptd.engine.reconciler import View
from ckptd.engine.snapshot import used_bytes
from ckptd.engine.unit import Unit, skipped
from ckptd.engine.volume import Volume

_TROUBLE_S = 24 * 3600.0


def exposure(view: View, now: float, units: Iterable[Unit] | None = None) -> Exposure:
    """Bytes that are acknowledged but not durable; what `sync = latest` lets go does not count."""
    files = count = 0
    oldest: float | None = None
    for unit in view.units if units is None else units:
        if skipped(unit, view.policies[unit.volume, unit.run]) or unit.taken:
            continue
        for row in unit.exposed:
            if row.id not in unit.aside and not view.held(row):
                files += 1
                count += row.size
                oldest = row.changed_at if oldest is None else min(oldest, row.changed_at)
    return Exposure(count, files, None if oldest is None else max(0.0, now - oldest))


def checkpoint(context: Context, view: View, unit: Unit, pins: Iterable[PinRow]) -> CheckpointReport:
    volume = context.volumes[unit.volume]
    step = -1 if unit.step is None else unit.step
    policy = view.policies[unit.volume, unit.run]
    committed_at = unit.committed.committed_at if unit.committed and unit.state is CheckpointState.COMMITTED else None
    pins = list(pins)
    return CheckpointReport(
        volume=unit.volume,
        run=unit.run,
        step=step,
        state=unit.state,
        framework=unit.framework,
        files=unit.files,
        bytes=unit.bytes,
        hot_bytes=unit.hot_bytes,
        durable_bytes=unit.durable_bytes,
        tiers=unit.tiers,
        pinned=any((pin.volume, pin.run, pin.step) == unit.key for pin in pins),
        path=volume.visible(path_of(unit.root) if unit.root else unit.run),
        written_at=unit.written_at,
        committed_at=committed_at,
        reason=unit.reason,
        skipped=skipped(unit, policy),
        superseded=unit.superseded,
        tags=tuple(name.removeprefix("tag:") for name in unit.protected if name.startswith("tag:")),
        protected=protecting.reasons(unit, policy, pins),
        durable_after_s=None if committed_at is None else max(0.0, committed_at - unit.written_at),
    )


def runs(view: View, now: float, volume: str | None) -> list[RunReport]:
    by_run: dict[tuple[str, str], list[Unit]] = defaultdict(list)
    for unit in view.units:
        if volume in (None, unit.volume):
            by_run[unit.volume, unit.run].append(unit)
    return [_run(name, run, units, exposure(view, now, units)) for (name, run), units in sorted(by_run.items())]


def _run(volume: str, run: str, units: list[Unit], exposed: Exposure) -> RunReport:
    steps = [unit for unit in units if unit.step is not None]
    newest = steps[-1] if steps else None
    whole = [unit for unit in steps if unit.restorable]
    return RunReport(
        volume=volume,
        run=run,
        checkpoints=len(steps),
        committed=sum(unit.state is CheckpointState.COMMITTED for unit in steps),
        newest_step=newest.step if newest else None,
        newest_state=newest.state if newest else None,
        bytes=sum(unit.bytes for unit in units),
        hot_bytes=sum(unit.hot_bytes for unit in units),
        durable_bytes=sum(unit.durable_bytes for unit in units),
        newest_restorable=whole[-1].step if whole else None,
        exposure=exposed,
    )


def tiers(context: Context, view: View, pins: Iterable[PinRow]) -> tuple[TierReport, ...]:
    pinned = {(pin.volume, pin.run, pin.step) for pin in pins}
    held = [unit for unit in view.units if unit.key in pinned]
    return tuple(
        TierReport(
            name=str(place),
            path=tier.path,
            budget_bytes=tier.budget,
            effective_budget_bytes=tier.effective,
            used_bytes=used_bytes(context, view.units, place),
            pinned_bytes=sum(unit.summed.held[place] for unit in held),
            huge_pages=tier.huge_pages,
        )
        for place, tier in context.tiers.items()
    )


def _front_reason(volume: Volume) -> str:
    """Why the front is not the faster one, or a mount's bytes are not moved by the kernel."""
    if volume.front.is_mount and volume.serving is not None:
        because = [volume.serving.refused, *volume.serving.mediated_because]
        return next(filter(None, because), "") or volume.front.reason
    return volume.front.reason


def volumes(context: Context, view: View) -> tuple[VolumeReport, ...]:
    reports = []
    for volume in context.volumes.values():
        health = context.transfers.health(volume.remote.name)
        units = [unit for unit in view.units if unit.volume == volume.name]
        reports.append(
            VolumeReport(
                name=volume.name,
                path=volume.path,
                remote=volume.remote.url,
                front=volume.front.name,
                passthrough=volume.serving is not None and volume.serving.passthrough,
                front_reason=_front_reason(volume),
                remote_ok=health.ok and volume.name not in context.unmet,
                remote_error=health.error or context.unmet.get(volume.name, ""),
                remote_since=health.since,
                runs=len({unit.run for unit in units}),
                checkpoints=sum(unit.step is not None for unit in units),
            )
        )
    return tuple(reports)


async def counts(context: Context, view: View) -> dict[str, Counts]:
    """By volume, for the metrics."""
    pins, now = await context.catalog.wishes.pins(), context.clock()
    found = {}
    for name, volume in context.volumes.items():
        units = [unit for unit in view.units if unit.volume == name]
        found[name] = Counts(
            exposure(view, now, units),
            Counter(unit.state for unit in units if unit.step is not None),
            sum(pin.volume == name for pin in pins),
            context.transfers.tally(volume.remote.name),
        )
    return found


async def node(
    context: Context,
    view: View,
    running: Iterable[Operation],
    *,
    version: str,
    started: float,
    restarts: int,
    state_dir: str,
) -> NodeReport:
    pins = await context.catalog.wishes.pins()
    now = context.clock()
    return NodeReport(
        version=version,
        node=context.node,
        pid=os.getpid(),
        uptime_s=time.monotonic() - started,
        restarts=restarts,
        volumes=volumes(context, view),
        tiers=tiers(context, view, pins),
        exposure=exposure(view, now),
        transfers=context.transfers.report(),
        operations=tuple(running),
        supervisor_pid=os.getppid(),
        state_dir=state_dir,
        scrub=context.scrub,
        trouble=tuple(await context.catalog.events.trouble(now - _TROUBLE_S)),
    )
