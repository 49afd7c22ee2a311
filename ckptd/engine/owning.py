"""Whose the runs are (`domain.access.Whose`): by their directories here, by manifests, and by files where there is neither."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping

from ckptd.domain.access import Owned, Whose, of_files
from ckptd.engine.context import Context
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume
from ckptd.layouts.location import TOP
from ckptd.policy.snapshot import Snapshot
from ckptd.tiers.ownership import owned

RunKey = tuple[str, str]


def of_all(context: Context, units: Iterable[Unit]) -> Mapping[RunKey, Whose]:
    """Of every run that is known."""
    recorded: dict[RunKey, set[Owned]] = defaultdict(set)
    for key, committed in context.known.units():
        recorded[key[:2]] |= committed.owners
    here: dict[RunKey, list[Unit]] = defaultdict(list)
    for unit in units:
        here[unit.volume, unit.run].append(unit)
    tops = {name: owned(volume.root) for name, volume in context.volumes.items()}
    return {
        (volume, run): _whose(
            context.volumes[volume], run, here.get((volume, run), ()), recorded.get((volume, run), ()), tops[volume]
        )
        for volume, run in recorded.keys() | here.keys()
        if volume in context.volumes
    }


def of_run(context: Context, volume: Volume, run: str, units: Iterable[Unit]) -> Whose:
    """Without owners where nothing is known of it."""
    recorded = {owner for _, committed in context.known.units(volume.name, run) for owner in committed.owners}
    return _whose(volume, run, units, recorded, owned(volume.root))


def _whose(volume: Volume, run: str, units: Iterable[Unit], recorded: Iterable[Owned], top: Owned | None) -> Whose:
    directory = None if run == TOP else owned(volume.locate(run))
    if directory is None:  # it is only in the remote, or lies at the top of the volume
        directory = of_files(
            (row.attributes.uid, row.attributes.gid, row.attributes.mode) for unit in units for row in unit.rows
        )
    found = {*recorded} if directory is None else {directory, *recorded}
    return Whose(top, tuple(sorted(found, key=lambda one: (one.uid, one.gid, one.mode))))


def foreign(context: Context, units: Iterable[Unit]) -> frozenset[RunKey]:
    """Runs whose directory here is another user's than the run that the remote has by that name, where root serves them all."""
    if os.geteuid() != 0:
        return frozenset()
    recorded: dict[RunKey, set[int]] = defaultdict(set)
    for unit in units:
        if unit.committed is not None and unit.run != TOP:
            recorded[unit.volume, unit.run] |= {owner.uid for owner in unit.committed.owners}
    return frozenset(
        (volume, run)
        for (volume, run), uids in recorded.items()
        if (here := owned(context.volumes[volume].locate(run))) is not None and here.uid not in uids | {0}
    )


async def tell_foreign(context: Context, seen: Snapshot) -> None:
    """Once of each, for as long as it lasts."""
    found = {(unit.volume, unit.run) for unit in seen.units if unit.foreign}
    for volume, run in sorted(found - context.foreign):
        here = owned(context.volumes[volume].locate(run))
        await context.event(
            "warning", "run.foreign", f"run '{run}' of the remote belongs to another user than its directory here"
            f"{'' if here is None else f' (user {here.uid})'}: nothing of what is saved there is sent",
            volume=volume, run=run, hint="give the directory another name, or ask an administrator to chown it",
        )  # fmt: skip
    context.foreign = found
