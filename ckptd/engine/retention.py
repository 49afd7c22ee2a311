"""Letting checkpoints go: by policy, or because a user said so."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from ckptd.catalog import FileRow
from ckptd.domain.errors import Busy, Conflict
from ckptd.domain.model import Place
from ckptd.domain.names import path_of
from ckptd.engine.context import Context
from ckptd.engine.leaving import described_keys, shared_keys
from ckptd.engine.moving import Moving
from ckptd.engine.tagging import Tagging
from ckptd.engine.volume import Volume
from ckptd.tiers.beneath import parent_of, unlink_link

_AT_A_TIME = 1000


class Retention:
    def __init__(self, context: Context, moving: Moving) -> None:
        self._context = context
        self._tagging = Tagging(context)
        self._moving = moving

    async def abandon(self, volume: str, run: str, step: int) -> None:
        """Drops a superseded checkpoint that was never sent (`sync = latest`), or that another node has pruned."""
        if await self._protected(volume, run, step):
            return
        rows = await self._context.catalog.files.of_unit(volume, run, step)
        async with self._context.claimed([row.id for row in rows]):
            await self.remove_local(rows)
        why = "was superseded before its upload began (sync = latest)"
        if (volume, run, step) in self._context.known.withdrawn():
            why = "was removed from the remote by another node, and is beyond what keep_remote keeps"
            await self._context.known.forget_withdrawn(volume, run, step)
        await self._context.event(
            "info", "checkpoint.abandoned", f"{run}@{step} {why}", volume=volume, run=run, step=step
        )

    async def prune(self, volume: str, run: str, step: int) -> None:
        """`keep_remote`: removes from the remote what no tier holds any more. What the job writes meanwhile stays.

        Another node may have tagged it: the remote is asked before. Raises RemoteError.
        """
        context = self._context
        context.require_met(volume)
        await self._tagging.refresh(context.volumes[volume], run)
        if await self._protected(volume, run, step):
            context.wake()
            return
        # First: a kill after the manifest went would leave links that nobody knows to belong to anything.
        rows = await context.catalog.files.of_unit(volume, run, step)
        await self._drop_links([row for row in rows if row.link is not None])
        await self.remove_remote(volume, run, step)
        context.meters.prunes.labels(volume).inc()
        await self._context.event(
            "info",
            "checkpoint.pruned",
            f"{run}@{step} is beyond what keep_remote keeps",
            volume=volume,
            run=run,
            step=step,
        )

    async def _drop_links(self, rows: Sequence[FileRow]) -> None:
        """The checkpoint's own symbolic links go with it, unless the job has put something else in their places."""
        for row in rows:
            if row.link is not None:
                with contextlib.suppress(OSError, Conflict):
                    unlink_link(self._context.volumes[row.volume].root, row.path, row.link)
            await self._context.catalog.files.delete_content(row.id, row.generation, closed=row.closed)
        self.remove_empty_directories(rows)

    async def _protected(self, volume: str, run: str, step: int) -> bool:
        """What was tagged or pinned since the plan was made."""
        pins = await self._context.catalog.wishes.pins()
        tagged = (volume, run, step) in await self._tagging.by_unit()
        return tagged or any((pin.volume, pin.run, pin.step) == (volume, run, step) for pin in pins)

    async def remove_local(self, rows: Sequence[FileRow]) -> None:
        """Raises Busy when somebody has a file open; what went before stays gone."""
        for row in rows:
            if row.link is not None or not row.closed or not row.copies:
                self._unlink(row)
            else:
                await self._moving.drop_local(row)
            await self._context.catalog.files.delete_content(row.id, row.generation, closed=row.closed)
        self.remove_empty_directories(rows)

    def _unlink(self, row: FileRow) -> None:
        try:
            with parent_of(self._context.volumes[row.volume].root, row.path) as (directory, name):
                os.unlink(name, dir_fd=directory)
        except (FileNotFoundError, Conflict):
            return  # Conflict: a link stands where its directory was; what is behind that is not ours
        except OSError as error:
            raise Busy(f"{row.path} cannot be removed: {error.strerror}") from error

    def remove_empty_directories(self, rows: Sequence[FileRow]) -> None:
        """The run's own directory stays: its job may be about to write there."""
        for row in rows:
            volume = self._context.volumes[row.volume]
            directory = os.path.dirname(row.path)
            while "/" in directory:
                try:
                    with parent_of(volume.root, directory) as (above, name):
                        os.rmdir(name, dir_fd=above)
                except (OSError, Conflict):
                    break
                directory = os.path.dirname(directory)

    async def remove_remote(self, volume_name: str, run: str, step: int | None) -> int:
        """Uncommits first, then deletes the objects, in batches. Returns the bytes freed.

        Touches only what manifests or the catalog say ckptd wrote, and nothing that another checkpoint's manifest describes.
        A kill at any moment leaves either the manifest or a list of the objects that are still to go (`clear_leftovers`):
        the list is written, and the catalog forgets the copies, before the manifest goes. Raises RemoteError.
        """
        context = self._context
        volume = context.volumes[volume_name]
        context.require_met(volume_name)
        rows = await context.catalog.files.of_unit(volume_name, run, step)
        committed = None if step is None else context.known.of(volume_name, run, step)
        keys = {
            copy.location: row.size
            for row in rows
            if not row.plain and (copy := row.copies.get(Place.REMOTE)) is not None
        }
        if committed is not None:
            keys |= {entry.key: entry.size for entry in committed.entries().values() if entry.link is None}
        for key in shared_keys(context, volume_name, run, step, keys):
            del keys[key]
        ordered = sorted(keys)
        context.deleting.update(ordered)
        try:
            async with context.catalog.transaction():
                await context.catalog.manifests.leave(volume_name, ordered)
                for row in rows:
                    await context.catalog.files.drop_copy(row.id, Place.REMOTE)
                await context.catalog.files.delete_without_copies([row.id for row in rows])
            if committed is not None and step is not None:
                await volume.manifests.delete(run, step, committed.by_node)
                await context.known.delete(volume_name, run, step)
            for begin in range(0, len(ordered), _AT_A_TIME):
                some = ordered[begin : begin + _AT_A_TIME]
                await context.transfers.delete(volume.remote, some)
                await context.catalog.manifests.cleared(volume_name, some)
        finally:
            context.deleting.difference_update(ordered)
        return sum(keys.values())

    async def clear_leftovers(self, volume: Volume) -> None:
        """Deletes objects of ours that nothing describes any more. Raises RemoteError.

        A key that a present file will be (or was) sent to again, or that a manifest describes by now, is no leftover;
        uploads keep off keys that are being deleted. What `remove_remote` is just deleting is left to it.
        """
        if volume.name in self._context.unmet:
            return
        if await self._context.catalog.manifests.leftovers(volume.name, limit=1):
            await self._context.known.refresh(volume)  # another node may have committed objects under these keys
            after = ""
            while listed := await self._context.catalog.manifests.leftovers(volume.name, after=after):
                after = listed[-1]
                await self._clear(volume, [key for key in listed if key not in self._context.deleting])
        await self._end_orphaned_uploads(volume)

    async def _clear(self, volume: Volume, keys: Sequence[str]) -> None:
        context = self._context
        used = await context.catalog.files.at_paths(volume.name, [path_of(key) for key in keys])
        described = described_keys(context, volume, keys)  # a commit may have begun since
        free = [key for key in keys if path_of(key) not in used and key not in described]
        context.deleting.update(free)
        try:
            if free:
                await context.transfers.delete(volume.remote, free)
        finally:
            context.deleting.difference_update(free)
        await context.catalog.manifests.cleared(volume.name, keys)

    async def _end_orphaned_uploads(self, volume: Volume) -> None:
        """Uploads of contents that went while nobody could tell the store: the daemon was killed, or the remote away."""
        context = self._context
        for key in await context.catalog.journal.keys():
            kind, file, *rest = key.split("/")
            if kind == "up" and rest and rest[-1] == volume.name and int(file) not in context.files:
                row = await context.catalog.files.get(int(file))
                if row is None or row.upload_key != key:
                    await context.transfers.abandon(volume.remote, key)
