"""First contact with remotes, and knocking at those that do not answer.

A remote is *met* once it was probed, its format is one we know, and its manifests were listed. Until then nothing is
written to it: it may belong to a newer version, or be another bucket than the one that is meant.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from ckptd.domain.errors import CkptdError, RemoteError
from ckptd.domain.model import Place
from ckptd.engine.context import Context
from ckptd.engine.tagging import Tagging
from ckptd.engine.volume import Volume
from ckptd.manifest.format import FORMAT_KEY

KNOCK_S = (1.0, 15.0)
"""First and longest wait between two knocks; doubled in between."""
SILENCE_S = 5.0
"""So long a start waits for a remote's first answer."""
SILENT = "it has not answered yet"
PATIENCE_S = 1.0
"""So long a start waits for the manifests: there may be very many in a remote that this node is new to."""
READING = "its checkpoints are being read for the first time"


class Reaching:
    def __init__(
        self,
        context: Context,
        recognise: Callable[[Volume], Awaitable[None]],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`recognise`: told of a volume whose manifests have just become known, before anything is written to its remote."""
        self._context = context
        self._recognise = recognise
        self._chance = chance
        self._meeting: dict[str, asyncio.Task[None]] = {}
        """By volume: first looks that a start did not wait for."""

    async def meet_all(self, *, restarted: bool, managed: bool) -> None:
        """At the first start a remote that can never work is an error; one that only does not answer now is not. Where a service
        manager starts the daemon (`managed`), a remote that has worked for it before may again, too: a start that fails at a
        reboot, or because the supervisor was killed, would cost jobs their volume.

        Raises RemoteError, ConfigError, StateUnusable.
        """
        volumes = self._context.volumes.values()
        for volume in volumes:
            await self._notice_another_remote(volume)
        await asyncio.gather(*(self._meet_first(volume, restarted=restarted, managed=managed) for volume in volumes))

    async def _meet_first(self, volume: Volume, *, restarted: bool, managed: bool) -> None:
        """Returns when the remote is met, or soon: the others, and what lies here, can be served without it."""
        try:
            for step, patience, why in ((self._contact, SILENCE_S, SILENT), (self._read, PATIENCE_S, READING)):
                self._context.unmet[volume.name] = why
                task = asyncio.create_task(step(volume), name=f"first look into {volume.remote.url}")
                try:
                    done, _ = await asyncio.wait([task], timeout=patience)
                except asyncio.CancelledError:
                    task.cancel()
                    raise
                if not done:
                    self._meeting[volume.name] = task
                    self._context.spawn(self._meet_later(volume, task), f"first look into {volume.remote.url}")
                    return
                task.result()
        except RemoteError as error:
            if not (error.retryable or restarted or (managed and await self._worked(volume))):
                raise
            await self._not_met(volume, error)

    async def _meet_later(self, volume: Volume, task: asyncio.Task[None]) -> None:
        try:
            await task
            if volume.name in self._context.unmet:  # it was the contact that took so long
                await self._read(volume)
        except CkptdError as error:
            await self._not_met(volume, error)
        finally:
            task.cancel()
            del self._meeting[volume.name]
        self._context.wake()

    async def run(self) -> None:
        """Uploads find out by themselves that a remote is back; but there may be nothing to upload."""
        async with asyncio.TaskGroup() as group:
            for volume in self._context.volumes.values():
                group.create_task(self._keep_in_touch(volume))

    async def _keep_in_touch(self, volume: Volume) -> None:
        shortest, longest = KNOCK_S
        pause = shortest
        while True:
            await asyncio.sleep(pause * (0.5 + self._chance()))
            if volume.name in self._meeting or self._answers(volume):
                pause = shortest
                continue
            pause = min(longest, pause * 2)
            try:
                await self._knock(volume)
            except CkptdError as error:
                if volume.name in self._context.unmet and not isinstance(error, RemoteError):
                    await self._not_met(volume, error)
            else:
                # What waits for its next attempt need not wait any more.
                self._context.retries.clear()
                self._context.wake()

    def _answers(self, volume: Volume) -> bool:
        if volume.name in self._context.unmet:
            return False
        # A full store takes a probe's few bytes: only an upload can tell.
        health = self._context.transfers.health(volume.remote.name)
        return health.ok or health.full

    async def _knock(self, volume: Volume) -> None:
        if volume.name in self._context.unmet:
            await self._contact(volume)
            await self._read(volume)
        else:
            await self._context.transfers.probe(volume.remote, expect=FORMAT_KEY)

    async def _contact(self, volume: Volume) -> None:
        expect = FORMAT_KEY if await self._worked(volume) else None
        await self._context.transfers.probe(volume.remote, expect=expect)
        await volume.manifests.check_format()
        await self._context.catalog.facts.set(f"met:{volume.name}", volume.remote.url)

    async def _worked(self, volume: Volume) -> bool:
        """At this URL, for this node, at any time before."""
        return await self._context.catalog.facts.get(f"met:{volume.name}") == volume.remote.url

    async def _read(self, volume: Volume) -> None:
        await self._context.known.refresh(volume)
        await Tagging(self._context).refresh(volume)
        await self._recognise(volume)
        self._context.unmet.pop(volume.name, None)

    async def _notice_another_remote(self, volume: Volume) -> None:
        """A volume that was bound to another URL before: nothing of it is durable in the new one."""
        context, name = self._context, f"remote:{volume.name}"
        before = await context.catalog.facts.get(name)
        if before is not None and before != volume.remote.url:
            for key in await context.catalog.journal.keys():
                if key.startswith("up/") and key.endswith(f"/{volume.name}"):
                    await context.catalog.journal.forget(key)
            cold = [row for row in await context.catalog.files.all(volume.name) if row.places == {Place.REMOTE}]
            await context.catalog.files.delete([row.id for row in cold])
            await context.catalog.files.drop_remote(volume.name)
            await context.catalog.manifests.forget_leftovers(volume.name)
            await context.catalog.tags.another_remote(volume.name)
            await context.catalog.history.another_remote(volume.name)
            known = await context.known.delete_all(volume.name)
            await context.event(
                "warning",
                "remote.changed",
                f"volume {volume.name} had the remote {before}: what lies here is sent to {volume.remote.url} anew, "
                f"{known} checkpoints of the old one are not shown any more",
                volume=volume.name,
                hint=f"{len(cold)} files are only in {before}: to have them, serve it again or copy it" if cold else "",
            )
        await context.catalog.facts.set(name, volume.remote.url)

    async def _not_met(self, volume: Volume, error: CkptdError) -> None:
        context = self._context
        if context.unmet.get(volume.name) == error.message:
            return
        context.unmet[volume.name] = context.remotes_down[volume.remote.name] = error.message
        message = f"{volume.remote.url}: {error.message}"
        await context.event("warning", "remote.unreachable", message, volume=volume.name, hint=error.hint)
