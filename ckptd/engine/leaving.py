"""What stays behind when files go: objects in the remote, objects in the NVMe tier."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Collection, Sequence

from ckptd.catalog import FileRow
from ckptd.domain.model import Place
from ckptd.engine.context import Context
from ckptd.engine.matching import matches
from ckptd.engine.volume import Volume


async def leave_remote(context: Context, volume: Volume, rows: Sequence[FileRow]) -> None:
    """The job deleted or renamed these files. What a manifest describes stays in the remote (a committed checkpoint ends
    only by retention or `rm --remote`); other objects of theirs are deleted when the remote can be reached.
    """
    members: dict[tuple[str, int], list[str]] = defaultdict(list)
    keys: list[str] = []
    for row in rows:
        remote = row.copies.get(Place.REMOTE)
        unit = None if row.step is None else context.known.of(volume.name, row.run, row.step)
        entry = None if unit is None else unit.entries().get(row.path)
        if entry is not None and row.step is not None:
            members[row.run, row.step].append(entry.key)
        if remote is not None and not matches(row, entry):
            keys.append(remote.location)
    for (run, step), forgotten in members.items():
        await context.known.forget_members(volume.name, run, step, forgotten)
    described = described_keys(context, volume)
    await context.catalog.manifests.leave(volume.name, [key for key in keys if key not in described])


def described_keys(context: Context, volume: Volume) -> set[str]:
    """Objects that a manifest speaks of (or one that is just being written): they stay whatever the job does."""
    known = {entry.key for _, unit in context.known.units(volume.name) for entry in unit.entries().values()}
    return known | context.committing


def shared_keys(context: Context, volume: str, run: str, step: int | None, keys: Collection[str]) -> set[str]:
    """Those of `keys` that the manifest of another checkpoint of the run describes too (keys never leave their run)."""
    others = (unit for its, unit in context.known.units(volume, run) if its[2] != step)
    return {
        entry.key
        for unit in others
        for manifest in unit.by_node.values()
        for entry in manifest.entries
        if entry.key in keys
    }


async def drop_objects(context: Context, volume: Volume, rows: Sequence[FileRow]) -> None:
    """Removes the NVMe objects that these files had, after the catalog forgot them.

    `cp -a` copies the link of a demoted file: then the object is another file's, too, and stays.
    """
    if volume.home is Place.NVME:
        return
    for row in rows:
        nvme = row.copies.get(Place.NVME)
        if nvme is not None and not await context.catalog.files.is_used(nvme.location):
            unlink_object(nvme.location)


def unlink_object(location: str) -> None:
    """Whoever has it open keeps reading it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(location)
