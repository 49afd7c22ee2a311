"""Whose the runs are (`domain.access.Whose`): by their directories here, by manifests, and by files where there is neither."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping

from ckptd.domain.access import Owned, Whose, of_files
from ckptd.engine.context import Context
from ckptd.engine.known import Committed
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume
from ckptd.layouts.location import TOP
from ckptd.policy.snapshot import Snapshot
from ckptd.tiers.ownership import owned

RunKey = tuple[str, str]


Recorded = dict[int, tuple[float, Owned]]
"""By user: the last that manifests say, and when it was written."""


def of_all(context: Context, units: Iterable[Unit]) -> Mapping[RunKey, Whose]:
    """Of every run that is known."""
    recorded: dict[RunKey, Recorded] = defaultdict(dict)
    for key, committed in context.known.units():
        _add(recorded[key[:2]], committed)
    here: dict[RunKey, list[Unit]] = defaultdict(list)
    for unit in units:
        here[unit.volume, unit.run].append(unit)
    tops = {name: owned(volume.root) for name, volume in context.volumes.items()}
    return {
        (volume, run): _whose(context.volumes[volume], run, here[volume, run], recorded[volume, run], tops[volume])
        for volume, run in recorded.keys() | here.keys()
        if volume in context.volumes
    }


def of_run(context: Context, volume: Volume, run: str, units: Iterable[Unit]) -> Whose:
    """Without owners where nothing is known of it."""
    recorded: Recorded = {}
    for _, committed in context.known.units(volume.name, run):
        _add(recorded, committed)
    return _whose(volume, run, units, recorded, owned(volume.root))


def _add(recorded: Recorded, committed: Committed) -> None:
    for uid, said in committed.owners.items():
        if said[0] >= recorded.get(uid, said)[0]:
            recorded[uid] = said


def _whose(volume: Volume, run: str, units: Iterable[Unit], recorded: Recorded, top: Owned | None) -> Whose:
    """The directory that is here speaks for its owner: he may have opened or closed it since. What the remote records of others
    counts besides.
    """
    here = None if run == TOP else owned(volume.locate(run))
    if run == TOP or (here is None and not recorded):
        here = of_files(
            (row.attributes.uid, row.attributes.gid, row.attributes.mode) for unit in units for row in unit.rows
        )
    found = {uid: owner for uid, (_, owner) in recorded.items()}
    if here is not None:
        found[here.uid] = here
    return Whose(top, tuple(found[uid] for uid in sorted(found)))


async def policies(context: Context, volume: Volume) -> dict[str, dict[str, str]]:
    """Settings by pattern, as they count now: what a user has set for his run does not count for whose name it becomes later."""
    found = await context.catalog.wishes.owned_policies(volume.name)
    return {
        pattern: settings
        for pattern, (settings, owner) in found.items()
        if owner is None or owner_of(context, volume, pattern) == owner
    }


def owner_of(context: Context, volume: Volume, run: str) -> int | None:
    """The one user whose it is; None: it is nobody's, or of several."""
    uids = {one.uid for one in of_run(context, volume, run, ()).owners}
    return uids.pop() if len(uids) == 1 else None


def is_foreign(context: Context, volume: Volume, run: str) -> bool:
    """`foreign` for one run, by what is known of it now."""
    if os.geteuid() != 0 or run == TOP or (here := owned(volume.locate(run))) is None:
        return False
    uids = {uid for _, committed in context.known.units(volume.name, run) for uid in committed.owners}
    return bool(uids) and here.uid not in uids | {0}


def foreign(context: Context, units: Iterable[Unit]) -> frozenset[RunKey]:
    """Runs whose directory here is another user's than the run that the remote has by that name, where root serves them all."""
    if os.geteuid() != 0:
        return frozenset()
    recorded: dict[RunKey, set[int]] = defaultdict(set)
    for unit in units:
        if unit.committed is not None and unit.run != TOP:
            recorded[unit.volume, unit.run] |= unit.committed.owners.keys()
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
