"""Looks whether what the catalog calls durable is still in the remote: other nodes write, prune and delete there too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ckptd.catalog import FileRow
from ckptd.domain.errors import IntegrityError, SourceChanged
from ckptd.domain.model import Place
from ckptd.engine.context import Context
from ckptd.engine.volume import Volume
from ckptd.transfer.side_by_side import side_by_side
from ckptd.transfer.transfers import ObjectStat

_AT_A_TIME = 16
_FEW = 2
_DEEP = 2
"""A listing of less than a directory in a run may be of the whole run, or of all."""


async def same_bytes(context: Context, volume: Volume, row: FileRow, found: ObjectStat) -> bool:
    """Whether another version of an object is the same content: somebody copied or restored it. Asks the store for its own
    checksum, and reads the object only where it has none. Raises RemoteError.
    """
    if row.checksums is None:
        return False
    if found.crc64nvme is not None:
        return found.crc64nvme == row.checksums.whole
    try:
        await context.transfers.verify_remote(volume.remote, found.key, row.checksums)
    except IntegrityError:
        return False
    return True


async def _listed(context: Context, volume: Volume, rows: Sequence[FileRow]) -> dict[str, ObjectStat]:
    """One request for up to a thousand objects, instead of one for each; what it leaves open is asked for singly."""
    keys = [copy.location for row in rows if (copy := row.copy(Place.REMOTE)) is not None]
    prefix = os.path.commonprefix(keys)  # noqa: RUF071 - a prefix of keys, as stores list them
    if len(keys) < _FEW or prefix.count("/") < _DEEP:
        return {}
    return {stat.key: stat for stat in await context.transfers.list(volume.remote, prefix)}


async def still_there(context: Context, volume: Volume, rows: Sequence[FileRow]) -> None:
    """Compares size and version of each file's object with what was confirmed when it was sent.

    What is not there any more is not durable: its remote copy is forgotten (so it is sent again) and SourceChanged raised.
    Raises RemoteError.
    """
    gone: list[FileRow] = []
    listed = await _listed(context, volume, rows)

    async def look(row: FileRow) -> None:
        copy = row.copy(Place.REMOTE)
        if copy is None:
            return
        seen = listed.get(copy.location)
        if seen is not None and seen.size == row.size and seen.etag == copy.etag:
            return
        found = await context.transfers.head(volume.remote, copy.location)
        if found is not None and found.size == row.size and copy.etag and found.etag != copy.etag:
            if await same_bytes(context, volume, row, found):
                await context.catalog.files.put_copy(row.id, replace(copy, etag=found.etag))
                return
            found = None
        if found is None or found.size != row.size:
            await context.catalog.files.drop_copy(row.id, Place.REMOTE)
            gone.append(row)

    await side_by_side(rows, look, _AT_A_TIME)
    if gone:
        await context.event(
            "warning",
            "copy.gone",
            f"{len(gone)} objects are not what was sent, e.g. {gone[0].path}: another node wrote or deleted them",
            volume=volume.name,
            path=gone[0].path,
        )
        context.wake()
        raise SourceChanged(f"{gone[0].path} is not in the remote any more as it was sent")
