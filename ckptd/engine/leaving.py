"""What stays behind when files go: objects in the remote, objects in the NVMe tier."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from ckptd.catalog import FileRow
from ckptd.domain.model import Place
from ckptd.engine.context import Context
from ckptd.engine.matching import matches
from ckptd.engine.volume import Volume
from ckptd.manifest import Manifest
from ckptd.manifest.packed import PackedEntries


async def leave_remote(context: Context, volume: Volume, rows: Sequence[FileRow]) -> None:
    """The job deleted or renamed these files. What a manifest describes stays in the remote (a committed checkpoint ends
    only by retention or `rm --remote`); other objects of theirs are deleted when the remote can be reached.
    """
    await hide(
        context, volume, [(row.path, copy.etag) for row in rows if row.plain and (copy := row.copy(Place.REMOTE))]
    )
    members: dict[tuple[str, int], list[str]] = defaultdict(list)
    keys: list[str] = []
    for row in rows:
        remote = row.copies.get(Place.REMOTE)
        unit = None if row.step is None else context.known.of(volume.name, row.run, row.step)
        entry = None if unit is None else unit.entries().get(row.path)
        if entry is not None and row.step is not None:
            members[row.run, row.step].append(entry.key)
        if remote is not None and not row.plain and not matches(row, entry):
            keys.append(remote.location)
    for (run, step), forgotten in members.items():
        await context.known.forget_members(volume.name, run, step, forgotten)
    described = described_keys(context, volume, keys)
    await context.catalog.manifests.leave(volume.name, [key for key in keys if key not in described])


async def hide(context: Context, volume: Volume, objects: Iterable[tuple[str, str]]) -> None:
    """The job deleted these objects, which are not ours, given by path and version: they stay, and out of sight here."""
    for path, etag in objects:
        if volume.plain is not None:
            volume.plain.pop(path, None)
        await context.catalog.hidden.add(volume.name, path, etag)


def described_keys(context: Context, volume: Volume, keys: Collection[str]) -> set[str]:
    """Those of `keys` that a manifest speaks of (or one that is just being written): they stay whatever the job does."""
    units = (unit for _, unit in context.known.units(volume.name))
    return _spoken_of((m for unit in units for m in unit.fitting.values()), keys) | (context.committing & set(keys))


def shared_keys(context: Context, volume: str, run: str, step: int | None, keys: Collection[str]) -> set[str]:
    """Those of `keys` that the manifest of another checkpoint of the run describes too (keys never leave their run)."""
    others = (unit for its, unit in context.known.units(volume, run) if its[2] != step)
    return _spoken_of((manifest for unit in others for manifest in unit.by_node.values()), keys)


def _spoken_of(manifests: Iterable[Manifest], keys: Collection[str]) -> set[str]:
    """Only manifests with files in one of the keys' folders are unpacked: there may be thousands of others."""
    wanted = set(keys)
    folders = {key.rpartition("/")[0] for key in wanted}
    near = (one for one in manifests if not isinstance(one.entries, PackedEntries) or one.entries.folders & folders)
    return {entry.key for manifest in near for entry in manifest.entries if entry.key in wanted} if wanted else set()


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
