"""Tags: set here, seen on every node, kept here while the remote is away.

A tag is a small object in the remote (`ckptd.manifest.tags`) and a row in the catalog. What a user asks for is in the catalog
first; the remote is told at once, or as soon as it answers. Last writer wins: a tag that is set while the remote answers
replaces whatever is there; one that had to wait gives way to one that another node has set later, by the nodes' clocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import Collection

import structlog

from ckptd.catalog import TagRow
from ckptd.domain.errors import CkptdError, NotKnown, RemoteError
from ckptd.domain.model import TagReport
from ckptd.domain.names import CheckpointId, check_tag
from ckptd.engine.context import Context
from ckptd.engine.volume import Volume
from ckptd.manifest.tags import Tag, TagStore

log = structlog.get_logger()

UnitKey = tuple[str, str, int | None]

_AT_ONCE_S = 5.0
"""How long a user waits for a remote; then it is told later."""
_LATER_S = 2.0
"""Between two looks for what the remote is still to be told."""


class Tagging:
    def __init__(self, context: Context) -> None:
        self._context = context

    def _store(self, volume: Volume) -> TagStore:
        return TagStore(self._context.transfers, volume.remote)

    # -- what is known here

    async def by_unit(self) -> dict[UnitKey, list[str]]:
        """The names of each tagged checkpoint."""
        found: dict[UnitKey, list[str]] = defaultdict(list)
        for row in await self._context.catalog.tags.all():
            if row.step is not None:
                found[row.volume, row.run, row.step].append(row.name)
        return found

    async def list(self, volume: str | None, run: str | None) -> list[TagReport]:
        rows = await self._context.catalog.tags.all(volume, run)
        return [_report(row) for row in rows if row.step is not None]

    async def resolve(self, volume: Volume, target: CheckpointId) -> CheckpointId:
        """A name by tag as a name by step; others as they are. Raises NotKnown."""
        if target.tag is None:
            return target
        await self.fresh(volume, target.run)
        row = await self._context.catalog.tags.get(volume.name, target.run, target.tag)
        if row is None or row.step is None:
            there = [tag.name for tag in await self.list(volume.name, target.run)]
            hint = f"its tags: {', '.join(there)}" if there else "it has no tags: ckptctl tag RUN@STEP NAME sets one"
            raise NotKnown(f"run '{target.run}' has no tag '{target.tag}' in volume {volume.name}", hint=hint)
        return CheckpointId(target.run, row.step)

    # -- what the remote knows

    async def fresh(self, volume: Volume, run: str | None = None) -> None:
        """Looks for what other nodes have set; a remote that does not answer soon is taken as it was known last."""
        if volume.name in self._context.unmet:
            return
        with contextlib.suppress(RemoteError, TimeoutError):
            async with asyncio.timeout(_AT_ONCE_S):
                await self.refresh(volume, run)

    async def refresh(self, volume: Volume, run: str | None = None) -> None:
        """Takes over what came, moved or went in the remote. Raises RemoteError.

        What was set here while the answer was on its way, or is still to be sent, is newer than the answer.
        """
        tags, store = self._context.catalog.tags, self._store(volume)
        before = {(row.run, row.name): row for row in await tags.all(volume.name, run)}
        listed = {(item.run, item.name): item for item in await store.listing(run)}
        for key, row in before.items():
            if row.etag is not None and key not in listed:
                await tags.forget(row)
        for key, item in listed.items():
            known = before.get(key)
            if known is not None and known.etag in (None, item.version):
                continue
            tag = await store.read(item.run, item.name)
            if tag is not None:
                row = TagRow(volume.name, item.run, item.name, tag.step, tag.by, tag.at, item.version)
                await tags.replace(known, row)

    # -- setting and deleting

    async def set(self, volume: Volume, run: str, step: int, name: str) -> TagReport:
        """The step must exist. Setting it where it is changes nothing; elsewhere it moves."""
        context, tags = self._context, self._context.catalog.tags
        check_tag(name)
        await self.fresh(volume, run)
        before = await tags.get(volume.name, run, name)
        if before is None or before.step != step:
            at = self._later_than(before)
            await tags.put(TagRow(volume.name, run, name, step, context.node, at, None))
            moved = f", no longer {run}@{before.step}" if before is not None and before.step is not None else ""
            await context.event(
                "info", "tag.set", f"{run}@{step} is tagged {name}{moved}",
                volume=volume.name, run=run, step=step, tag=name,
            )  # fmt: skip
        await self._send_at_once(volume, run, name)
        context.wake()
        row = await tags.get(volume.name, run, name)
        if row is None or row.step is None:
            raise NotKnown(f"tag {name} of run {run} was deleted meanwhile")
        return _report(row)

    async def delete(self, volume: Volume, run: str, names: Collection[str]) -> None:
        """Absent ones are fine."""
        context, tags = self._context, self._context.catalog.tags
        await self.fresh(volume, run)
        for name in names:
            before = await tags.get(volume.name, run, name)
            if before is not None and before.step is not None:
                at = self._later_than(before)
                await tags.put(TagRow(volume.name, run, name, None, context.node, at, None))
                await context.event(
                    "info", "tag.deleted", f"{run}@{before.step} is no longer tagged {name}",
                    volume=volume.name, run=run, step=before.step, tag=name,
                )  # fmt: skip
            await self._send_at_once(volume, run, name)
        context.wake()

    def _later_than(self, before: TagRow | None) -> float:
        """Now; but what a user says after having seen `before` counts as later, whatever the clocks say."""
        now = self._context.clock()
        return now if before is None else max(now, math.nextafter(before.at, math.inf) + 1e-3)

    async def _send_at_once(self, volume: Volume, run: str, name: str) -> None:
        if volume.name in self._context.unmet:
            return
        with contextlib.suppress(RemoteError, TimeoutError):
            async with asyncio.timeout(_AT_ONCE_S):
                await self._send(volume, run, name)

    async def _send(self, volume: Volume, run: str, name: str) -> None:
        """Tells the remote, unless another node has set the tag later. Raises RemoteError."""
        tags, store = self._context.catalog.tags, self._store(volume)
        row = await tags.get(volume.name, run, name)
        if row is None or row.etag is not None:
            return
        there = await store.read(run, name)
        if there is not None and there.at > row.at:
            # Version unknown: the next refresh reads it again.
            await tags.replace(row, TagRow(volume.name, run, name, there.step, there.by, there.at, ""))
        elif row.step is None:
            await store.delete(run, name)
            await tags.forget(row)
        else:
            version = await store.write(run, name, Tag(row.step, row.node, row.at))
            await tags.replace(row, TagRow(volume.name, run, name, row.step, row.node, row.at, version))

    async def run(self) -> None:
        """Sends what had to wait, for as long as the daemon serves."""
        async with asyncio.TaskGroup() as group:
            for volume in self._context.volumes.values():
                group.create_task(self._keep_sending(volume))

    async def _keep_sending(self, volume: Volume) -> None:
        while True:
            await asyncio.sleep(_LATER_S)
            with contextlib.suppress(CkptdError):
                for row in await self._context.catalog.tags.all():
                    if row.etag is None and row.volume == volume.name and volume.name not in self._context.unmet:
                        await self._send(volume, row.run, row.name)


def _report(row: TagRow) -> TagReport:
    return TagReport(row.volume, row.run, row.name, row.step or 0, row.node, row.at, row.etag is not None)
