"""Rows for files that only a manifest describes: before they are fetched, or before their manifest goes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckptd.catalog import Catalog, CopyRow, FileRow
from ckptd.catalog.files import NewContent
from ckptd.domain.access import Owned
from ckptd.domain.errors import IntegrityError
from ckptd.domain.model import Place
from ckptd.engine.volume import Volume
from ckptd.layouts import locate
from ckptd.manifest import ManifestEntry
from ckptd.tiers import beneath, swap
from ckptd.tiers.beneath import directories_of

if TYPE_CHECKING:
    from ckptd.engine.known import Committed
    from ckptd.engine.unit import Unit


async def adopt(catalog: Catalog, volume: Volume, entry: ManifestEntry, now: float, *, plain: bool = False) -> FileRow:
    """A row for a file that is only in the remote. Raises IntegrityError for an entry without a checksum.

    `plain`: no manifest describes it. Then it belongs to no step, or a part of one would look like a checkpoint.
    """
    files, sums = catalog.files, entry.checksums
    if sums is None:
        raise IntegrityError(f"the manifest has no checksum of {entry.key}")
    where = locate(entry.path)
    # When it was written, not when it came here: which of two files is the younger decides whether a marker speaks for it.
    at = min(now, entry.attributes.mtime_ns / 1e9)
    new = NewContent(
        entry.path, where.run, None if plain else where.step, None, True, sums.size, entry.attributes, at, plain=plain
    )
    async with catalog.transaction():
        await files.settle(volume.name, [new])
        row = await files.at(volume.name, entry.path)
        if row is None:
            raise LookupError(entry.path)
        await files.set_checksums(row.id, row.generation, sums)
        await files.put_copy(row.id, CopyRow(Place.REMOTE, row.generation, entry.key, etag=entry.etag))
    row = await files.get(row.id)
    if row is None:
        raise LookupError(entry.path)
    return row


def make_directories(volume: Volume, unit: Unit) -> None:
    """Those of a checkpoint, as its manifests say; where they do not, as its files'. Raises Conflict (`tiers.beneath`)."""
    files = {row.path: row.attributes for row in unit.rows}
    files |= {path: entry.attributes for path, entry in unit.cold.items()}
    recorded = {} if unit.committed is None else unit.committed.directories
    first = {above: a for path, a in sorted(files.items(), reverse=True) for above in directories_of([path])}
    wanted = {path: recorded.get(path) or Owned(a.uid, a.gid, 0o755) for path, a in first.items()}
    beneath.make_directories(volume.root, wanted)


def link(volume: Volume, entry: ManifestEntry) -> bool:
    """Makes a symbolic link of the job's own again; not one that leads out of the volume: who writes to the remote must not
    make a job write anywhere on this node. Returns whether it did.
    """
    if entry.link is None or leads_out(volume, entry.path, entry.link):
        return False
    owner = entry.attributes
    swap.link_back(volume.root, entry.path, entry.link, owner.uid, owner.gid)
    return True


def leads_out(volume: Volume, path: str, target: str) -> bool:
    """By its text: what other links on its way do is found out when files are placed (`tiers.beneath`)."""
    if os.path.isabs(target):
        roots = (volume.root, volume.path)
        return not any(f"{os.path.normpath(target)}/".startswith(f"{os.path.normpath(root)}/") for root in roots)
    inside = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return inside == ".." or inside.startswith("../")


async def adopt_members(catalog: Catalog, volume: Volume, run: str, step: int, committed: Committed) -> None:
    """Of a checkpoint that is partly here: what only its manifest describes, before that manifest goes. Without it the
    rest would look like a whole checkpoint of fewer files.
    """
    present = {row.path for row in await catalog.files.of_unit(volume.name, run, step)}
    if not present:
        return
    for path, entry in committed.entries().items():
        if path in present or entry.key in committed.forgotten:
            continue
        if entry.link is not None:
            link(volume, entry)
        elif await catalog.files.at(volume.name, path) is None:
            await adopt(catalog, volume, entry, committed.committed_at)
