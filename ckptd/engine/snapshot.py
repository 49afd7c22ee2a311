"""From units and the running work to what the planner sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ckptd.catalog import FileRow, PinRow, UnitName
from ckptd.domain.model import CheckpointState, Place
from ckptd.engine import owning
from ckptd.engine.context import Context
from ckptd.engine.parts import adds_only
from ckptd.engine.retries import move_of
from ckptd.engine.unit import Unit, settled
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
    busy = _units_of(context, {*context.files, *context.retries.files(), *begun})
    pruners = _pruners(units)
    foreign = owning.foreign(context, units)
    views = tuple(
        _view(
            context,
            unit,
            pinned,
            policies[unit.volume, unit.run],
            begun,
            busy,
            pruners.get((unit.volume, unit.run)),
            foreign=(unit.volume, unit.run) in foreign,
        )
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
    return Snapshot(views, tiers, context.user_budget, draining=context.draining > 0)


def _pruners(units: Sequence[Unit]) -> dict[tuple[str, str], str]:
    """By run: the one node that prunes, which all of them find by themselves."""
    found: dict[tuple[str, str], str] = {}
    for unit in reversed(units):  # each run's by step: the newest comes last
        run = unit.volume, unit.run
        if run not in found and unit.committed is not None and unit.state is CheckpointState.COMMITTED:
            found[run] = min(unit.committed.fitting)
    return found


def _units_of(context: Context, files: Iterable[int]) -> frozenset[UnitName]:
    rows = (context.catalog.files.kept(file) for file in files)
    return frozenset(row.unit for row in rows if row is not None)


def _view(
    context: Context, unit: Unit, pinned: Mapping[tuple[str, str, int], Place], policy: Policy, begun: frozenset[int],
    busy: frozenset[UnitName], pruner: str | None, *, foreign: bool,
) -> UnitView:  # fmt: skip
    """`busy`: units with files that something is done to, or that wait after a failure.

    Of the others the view is the same as at the last look, unless something changed that is not the unit's own.
    """
    key = unit.key
    pin = None if unit.step is None else pinned.get((unit.volume, unit.run, unit.step))
    remote_ok = (
        unit.volume not in context.unmet and context.transfers.health(context.volumes[unit.volume].remote.name).ok
    )
    working, retry_at = key in context.busy_units, context.retries.at(key)
    others = (
        unit.state, policy, pin, remote_ok, working, retry_at, unit.protected, unit.asked_for, unit.superseded, pruner,
        foreign,
    )  # fmt: skip
    if key not in busy and unit.seen is not None and unit.seen[0] == others:
        return unit.seen[1]
    running = context.files
    if key in busy:
        files = tuple(_file(context, unit, row) for row in unit.rows if row.link is None)
    else:
        if unit.idle is None:
            unit.idle = tuple(_file(context, unit, row) for row in unit.rows if row.link is None)
        files = unit.idle
    uploading = key in busy and any((work := running.get(row.id)) is not None and work.uploading for row in unit.rows)
    view = UnitView(
        volume=unit.volume,
        run=unit.run,
        step=unit.step,
        state=unit.addition or unit.state,
        files=files,
        policy=policy,
        protected=bool(unit.protected),
        asked_for=unit.asked_for,
        pinned=pin,
        manifest=unit.committed is not None and unit.addition is None and not adds_only(unit, context.node),
        manifest_current=unit.manifest_current and unit.state is CheckpointState.COMMITTED,
        upload_begun=unit.begun
        or unit.addition is not None
        or uploading
        or (key in busy and any(row.id in begun for row in unit.rows)),
        remote_ok=remote_ok,
        busy=working,
        retry_at=retry_at,
        completed_at=unit.written_at if unit.restorable else None,
        superseded=unit.superseded,
        part=unit.part is not None and unit.part.ready,
        part_committed=unit.part_committed,
        withdrawn=unit.withdrawn,
        owner=unit.owner,
        foreign=foreign,
        shared=pruner not in (None, context.node),
    )
    unit.seen = None if key in busy else (others, view)
    return view


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
        left_over=(where.temporary and unit.restorable) or row.id in unit.aside or row.plain,
        last=where.last,
        closed_at=row.changed_at,
        points_to=row.points_to,
    )


def used_bytes(context: Context, units: Sequence[Unit], place: Place) -> int:
    """Bytes in a tier: whole copies (stale ones too: they lie there), open files, and what is on its way."""
    used = 0
    for unit in units:
        sums = unit.summed
        used += sums.held[place] + (sums.opened[place] if place is context.volumes[unit.volume].home else 0)
    for file, work in context.files.items():
        if work.moving_to is place:
            row = context.catalog.files.kept(file)
            arrived = row is not None and place in row.copies  # its move is just about to end
            used += 0 if arrived else work.size
    return used
