"""`fsync = remote`: a job's fsync waits until the remote has confirmed what it has written, though the file is still open.

The planner sends what is closed, and when it is best for the checkpoint. Here somebody waits: exactly what he means is sent at
once, whatever the planner would do, ahead of other uploads. Of a file that is open no copy is recorded, because it may be written
again the next moment: its object is only noted, to be deleted with the file. When it is closed, what was sent is compared with
what it is then (`comparing`), and is its remote copy if that is the same; so nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import NamedTuple

import structlog

from ckptd.catalog import FileRow
from ckptd.domain.errors import CkptdError, Conflict, NotInTime, RemoteError, SourceChanged
from ckptd.engine import looking, owning, policies
from ckptd.engine.actions import Actions
from ckptd.engine.context import Context
from ckptd.engine.matching import matches
from ckptd.engine.reconciler import Reconciler
from ckptd.engine.volume import Volume
from ckptd.layouts import locate
from ckptd.policy.policy import Fsync
from ckptd.tiers.lease import has_writer
from ckptd.transfer.side_by_side import side_by_side

log = structlog.get_logger()

_PAUSE_S = (0.2, 2.0)
"""First and longest wait between two tries; doubled in between."""
_CHANGES = 20
"""Tries in which the content changed while it was sent: who writes through a mapping all the time never gets an answer else."""
_AT_A_TIME = 16


class _Content(NamedTuple):
    """What a path shows at this moment."""

    location: str
    found: looking.Found


class Syncing:
    def __init__(self, context: Context, actions: Actions, reconciler: Reconciler, *, patience_s: float) -> None:
        self._context = context
        self._actions = actions
        self._reconciler = reconciler
        self._patience_s = patience_s

    async def may_wait(self, volume: Volume) -> bool:
        """Whether any run's fsync waits."""
        return policies.any_remote_fsync(volume.policy, await owning.policies(self._context, volume))

    async def warn(self, volume: Volume) -> None:
        """At the start of a volume on which nobody hears an fsync."""
        if not volume.front.is_mount and await self.may_wait(volume):
            await self._context.event(
                "warning", "fsync.unheard", f"fsync = remote has no effect: volume {volume.name} is watched, not mounted",
                volume=volume.name, hint="ckptctl flush where the job wants to wait",
            )  # fmt: skip

    async def sync(self, volume: Volume, path: str, directory: bool) -> int:
        """Returns 0 when the remote has it, or the run's policy does not ask for that; else an errno. Raises nothing."""
        try:
            async with asyncio.timeout(self._patience_s):
                if directory:
                    await self._directory(volume, path)
                elif await self._waits(volume, path):
                    await self._context.catch_up()
                    await self._file(volume, path)
        except TimeoutError:
            health = self._context.transfers.health(volume.remote.name)
            late = f"the remote did not confirm it within {self._patience_s:g} s"
            await self._failed(
                volume, path, NotInTime(f"{late}: {health.error}" if health.error else late, hint=health.hint)
            )
        except (CkptdError, OSError) as error:
            await self._failed(volume, path, error)
        else:
            return 0
        return errno.EIO

    async def _failed(self, volume: Volume, path: str, error: CkptdError | OSError) -> None:
        message, hint = (error.message, error.hint) if isinstance(error, CkptdError) else (str(error), "")
        await self._context.event(
            "error",
            "fsync.failed",
            f"fsync of {path or '.'} failed: {message}",
            volume=volume.name,
            path=path,
            hint=hint,
        )

    async def _waits(self, volume: Volume, path: str) -> bool:
        patterns = await owning.policies(self._context, volume)
        return policies.effective(volume.policy, patterns, locate(path).run).fsync is Fsync.REMOTE

    async def _directory(self, volume: Volume, path: str) -> None:
        """The closed files directly in it. One that is open is its writer's to sync."""
        await self._context.catch_up()
        rows = await self._context.catalog.files.under(volume.name, path)
        here = [row for row in rows if os.path.dirname(row.path) == path and row.closed and row.link is None]
        waited_for = [row.path for row in here if await self._waits(volume, row.path)]
        await side_by_side(waited_for, lambda one: self._file(volume, one), _AT_A_TIME)

    async def _file(self, volume: Volume, path: str) -> None:
        """What has happened so far is in the catalog."""
        pause, longest = _PAUSE_S
        changes = 0
        while True:
            try:
                if await self._once(volume, path):
                    return
            except SourceChanged:
                changes += 1
                if changes > _CHANGES:
                    raise
            except RemoteError as error:  # also one that only somebody can mend: he has as much time
                log.info("fsync.waits", volume=volume.name, path=path, error=error.message)
            await asyncio.sleep(pause)
            await self._context.catch_up()
            pause = min(longest, pause * 2)

    def _look(self, volume: Volume, path: str) -> _Content | None:
        """None: nothing is there, or what is not sent (a link of the job's own, a name that is ckptd's)."""
        location = volume.locate(path)
        found = looking.find(location)
        if found is not None and found.target is not None:
            location = found.target
            found = looking.find(location) if volume.object_of(location) is not None else None
        return None if found is None or found.target is not None else _Content(location, found)

    async def _once(self, volume: Volume, path: str) -> bool:
        """One try. False: again. Raises SourceChanged, Conflict, RemoteError."""
        context = self._context
        row = await context.catalog.files.at(volume.name, path)
        content = self._look(volume, path)
        if content is None or (row is None and _private(path)):
            return True
        if row is None:
            return False  # it is not known yet
        running = context.files.get(row.id)
        if running is not None and running.uploading:
            await asyncio.wait([running.task])
            return False
        closed = _lies_there(row, content) and has_writer(content.location) is not True
        if closed and row.durable:
            return True
        if await self._actions.uploading.another_users(volume, row):
            raise Conflict(
                f"run '{row.run}' of the remote belongs to another user than its directory here",
                hint="give the directory another name, or ask an administrator to chown it",
            )
        async with context.claimed([row.id]):
            context.require_met(volume.name)
            await self._withdraw_manifest(volume, row, closed=closed)
            if closed:
                await self._actions.uploading.upload(row.id, row.generation)
                return False  # what is recorded of it counts
            await self._actions.uploading.upload_open(row, content.location, content.found)
            return True

    async def _withdraw_manifest(self, volume: Volume, row: FileRow, *, closed: bool) -> None:
        """Before an object is replaced that a manifest describes. The planner would wait for the whole checkpoint with that."""
        if row.step is None:
            return
        its = volume.name, row.run, row.step
        await self._actions.uploading.look_up(volume, row.run, row.step)
        if not self._described(row, its, closed=closed):
            return
        view = (await self._reconciler.look()).by_name
        await self._actions.uncommit(*its, self._reconciler.view.policies, view)
        if self._described(row, its, closed=closed):
            raise Conflict(
                f"{row.path} is in the remote with other content, of another node's checkpoint",
                hint="write it under another name, or remove that checkpoint: ckptctl rm RUN@STEP --remote",
            )

    def _described(self, row: FileRow, its: tuple[str, str, int], *, closed: bool) -> bool:
        committed = self._context.known.of(*its)
        entry = None if committed is None else committed.entries().get(row.path)
        return entry is not None and not (closed and matches(row, entry))


def _private(path: str) -> bool:
    return any(name.startswith(".ckptd-") for name in path.split("/"))


def _lies_there(row: FileRow, content: _Content) -> bool:
    """Whether the catalog knows what is there as the row's present content."""
    local = row.local()
    return (
        row.closed
        and local is not None
        and local.location == content.location
        and row.stamp(local) == content.found.stamp
    )
