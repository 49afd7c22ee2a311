"""From units and the running work to what the planner sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckptd.catalog import FileRow, PinRow
from ckptd.domain.model import CheckpointState, Place
from ckptd.engine.context import Context
from ckptd.engine.parts import adds_only
from ckptd.engine.retries import move_of
from ckptd.engine.units import Unit, settled
from ckptd.layouts import locate
from ckptd.policy.policy import Policy
from ckptd.policy.snapshot import FileView, Snapshot, TierView, UnitView
from ckptd.tiers.reservation import expected_bytes


def take(
    context: Context,
    units: Sequence[Unit],
    pins: Sequence[PinRow],
    policies: Mapping[tuple[str, str], Policy],
    begun: frozenset[int],
) -> Snapshot:
    """`begun`: ids of files of which an unfinished upload is in the journal."""
    pinned = {(pin.volume, pin.run, pin.step): pin.tier for pin in pins}
    pruners = _pruners(units)
    views = tuple(
        _unit(context, unit, pinned, policies[unit.volume, unit.run], begun, pruners.get((unit.volume, unit.run)))
        for unit in units
    )
    at_home = [view for view in views if context.volumes[view.volume].home is Place.RAM]
    expected = expected_bytes(at_home, context.clock())
    tiers = tuple(
        TierView(
            place,
            tier.effective,
            used_bytes(context, units, place),
            (min(expected, tier.effective // 2) if place is Place.RAM else 0) + context.wanted.get(place, 0),
        )
        for place, tier in context.tiers.items()
    )
    return Snapshot(views, tiers)


def _pruners(units: Sequence[Unit]) -> dict[tuple[str, str], str]:
    """By run: the one node that prunes, which all of them find by themselves."""
    found = {}
    for unit in units:  # each run's by step: the newest comes last
        if unit.committed is not None and unit.state is CheckpointState.COMMITTED:
            found[unit.volume, unit.run] = min(unit.committed.fitting)
    return found


def _unit(
    context: Context, unit: Unit, pinned: Mapping[tuple[str, str, int], Place], policy: Policy, begun: frozenset[int],
    pruner: str | None,
) -> UnitView:  # fmt: skip
    running, retries = context.files, context.retries
    if any(row.id in running or retries.at(row.id) or retries.at(move_of(row.id)) for row in unit.rows):
        files = tuple(_file(context, unit, row) for row in unit.rows if row.link is None)
    else:
        if unit.idle is None:
            unit.idle = tuple(_file(context, unit, row) for row in unit.rows if row.link is None)
        files = unit.idle
    uploading = any((work := running.get(row.id)) is not None and work.uploading for row in unit.rows)
    pin = None if unit.step is None else pinned.get((unit.volume, unit.run, unit.step))
    return UnitView(
        volume=unit.volume,
        run=unit.run,
        step=unit.step,
        state=unit.state,
        files=files,
        policy=policy,
        protected=bool(unit.protected),
        asked_for=unit.asked_for,
        pinned=pin,
        manifest=unit.committed is not None and not adds_only(unit, context.node),
        manifest_current=unit.manifest_current and unit.state is CheckpointState.COMMITTED,
        upload_begun=unit.begun or uploading or any(row.id in begun for row in unit.rows),
        remote_ok=unit.volume not in context.unmet
        and context.transfers.health(context.volumes[unit.volume].remote.name).ok,
        busy=unit.key in context.busy_units,
        retry_at=context.retries.at(unit.key),
        completed_at=unit.written_at if unit.restorable else None,
        superseded=unit.superseded,
        part=unit.part is not None and unit.part.ready,
        part_committed=unit.part_committed,
        withdrawn=unit.withdrawn,
        shared=pruner not in (None, context.node),
    )


def _file(context: Context, unit: Unit, row: FileRow) -> FileView:
    work = context.files.get(row.id)
    where = locate(row.path)
    return FileView(
        id=row.id,
        size=row.size,
        generation=row.generation,
        settled=settled(row),
        open=not row.closed,
        copies=row.places,
        busy=work is not None,
        uploading=work is not None and work.uploading,
        moving_to=None if work is None else work.moving_to,
        leaving=work is not None and work.leaving,
        retry_at=context.retries.at(row.id),
        move_retry_at=context.retries.at(move_of(row.id)),
        left_over=(where.temporary and unit.restorable) or row.id in unit.aside,
        last=where.last,
        closed_at=row.changed_at,
        points_to=row.points_to,
    )


def used_bytes(context: Context, units: Sequence[Unit], place: Place) -> int:
    """Bytes in a tier: whole copies (stale ones too: they lie there), open files, and what is on its way."""
    used = 0
    coming = {file: work.size for file, work in context.files.items() if work.moving_to is place}
    for unit in units:
        home = context.volumes[unit.volume].home
        for row in unit.rows:
            if row.link is None and (place in row.copies or (place is home and not row.closed)):
                used += row.size
                if coming:
                    coming.pop(row.id, None)  # it has arrived, its move is just about to end
    return used + sum(coming.values())
