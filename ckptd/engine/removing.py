"""`rm` and `evict`: what a user lets go."""

from __future__ import annotations

from collections.abc import Sequence

from ckptd.catalog import FileRow
from ckptd.domain.errors import NotAllowed, NotKnown, OnlyCopy, SourceChanged
from ckptd.domain.model import Operation
from ckptd.domain.names import CheckpointId
from ckptd.engine import owning
from ckptd.engine.context import Context
from ckptd.engine.moving import Moving
from ckptd.engine.operations import Progress
from ckptd.engine.prefetching import Choosing
from ckptd.engine.reconciler import Reconciler
from ckptd.engine.retention import Retention
from ckptd.engine.tagging import Tagging
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume


def refuse_tagged(units: Sequence[Unit]) -> None:
    """Somebody gave it a name because it is worth keeping. Raises NotAllowed."""
    for unit in units:
        names = [name.removeprefix("tag:") for name in unit.protected if name.startswith("tag:")]
        if names:
            raise NotAllowed(
                f"{unit.run}@{unit.step} is tagged {', '.join(names)}",
                hint=f"--force deletes it all the same; ckptctl tag {unit.run} {names[0]} --delete takes the tag back",
            )


class Removing:
    def __init__(
        self, context: Context, choosing: Choosing, reconciler: Reconciler, moving: Moving, retention: Retention
    ) -> None:
        self._context = context
        self._choosing = choosing
        self._reconciler = reconciler
        self._moving = moving
        self._retention = retention
        self._tagging = Tagging(context)

    async def _units(self, operation: Operation, volume: Volume, *, must: bool) -> list[Unit]:
        target = CheckpointId.parse(operation.target)
        await self._choosing.fresh(volume, target.run, must=must)
        units = self._reconciler.view.run(volume.name, target.run)
        if target.step is not None:
            units = [unit for unit in units if unit.step == target.step]
        if not units:
            raise NotKnown(f"there is no {target} in volume {volume.name}", hint="see: ckptctl ls")
        self._refuse_foreign(operation, volume, target.run)
        return units

    def _refuse_foreign(self, operation: Operation, volume: Volume, run: str) -> None:
        """Whose it is was asked when the operation was started, perhaps of a remote that did not answer then."""
        if operation.uid not in (None, 0) and owning.is_foreign(self._context, volume, run):
            raise NotAllowed(f"run '{run}' of the remote belongs to another user than its directory here")

    async def remove(self, progress: Progress) -> None:
        """Locally, and with `remote` everywhere. Without a step: the whole run.

        Raises NotAllowed for what is tagged (`force`: its tags go too), NotKnown, Busy, RemoteError.
        """
        operation = progress.operation
        volume = self._context.volume(operation.volume)
        far = "remote" in operation.arguments
        await self._tagging.fresh(volume, CheckpointId.parse(operation.target).run)
        units = await self._units(operation, volume, must=far)
        if "force" not in operation.arguments:
            refuse_tagged(units)
        progress.total = sum(unit.bytes for unit in units)
        for unit in units:
            async with self._context.claimed([row.id for row in unit.rows]):
                if far:
                    await self._retention.remove_remote(volume.name, unit.run, unit.step)
                if unit.step is not None:
                    await self._context.catalog.wishes.unpin(volume.name, unit.run, unit.step)
                present = await self._context.catalog.files.by_ids([row.id for row in unit.rows])
                await self._retention.remove_local(list(present.values()))
            if far or not (unit.manifest_current or unit.added):
                names = [name.removeprefix("tag:") for name in unit.protected if name.startswith("tag:")]
                await self._tagging.delete(volume, unit.run, names)
            progress.add(unit.bytes)
        if CheckpointId.parse(operation.target).step is None:
            await self._context.catalog.history.forget_run(volume.name, CheckpointId.parse(operation.target).run)
        where = "everywhere" if far else "from this node (what the remote has stays: --remote)"
        progress.result = f"{operation.target}: removed {where}"
        await self._context.event(
            "info",
            "checkpoint.removed",
            progress.result,
            volume=volume.name,
            run=units[0].run,
            target=operation.target,
        )
        self._context.wake()

    async def evict(self, progress: Progress) -> None:
        """Drops the tier copies. Raises OnlyCopy where that would lose something (`force`: does it all the same), Busy."""
        operation = progress.operation
        volume = self._context.volume(operation.volume)
        units = await self._units(operation, volume, must=False)
        force = "force" in operation.arguments
        rows = [row for unit in units for row in unit.rows if row.link is None and (row.local() or not row.closed)]
        exposed = [row for row in rows if not row.durable]
        if exposed and not force:
            raise OnlyCopy(
                f"{operation.target}: {len(exposed)} files are not durable yet, e.g. {exposed[0].path}",
                hint=f"ckptctl flush {operation.target} first",
            )
        progress.total = sum(row.size for row in rows)
        unpinned = await self._unpin(volume, units)
        async with self._context.claimed([row.id for row in rows]):
            if not force:
                await self._confirm(operation.target, [row for row in rows if row.durable])
            # What was read before the claim may be old: a job may have written, or a demotion ended, meanwhile.
            now = await self._context.catalog.files.by_ids([row.id for row in rows])
            for row in rows:
                if (present := now.get(row.id)) is None:
                    continue
                if present.generation != row.generation:
                    raise SourceChanged(f"{row.path} was written meanwhile", hint="it stays; try again")
                if not present.durable and not force:
                    raise OnlyCopy(
                        f"{row.path} is not durable any more", hint=f"ckptctl flush {operation.target} first"
                    )
                if present.durable:
                    await self._moving.drop_local(present)
                else:
                    await self._retention.remove_local([present])
                progress.add(row.size)
        for unit in units:
            if unit.step is not None:
                await self._moving.fold(volume.name, unit.run, unit.step)
        note = f"; {', '.join(unpinned)} was pinned and is so no longer" if unpinned else ""
        progress.result = f"{operation.target}: evicted{note}"
        self._context.wake()

    async def _unpin(self, volume: Volume, units: Sequence[Unit]) -> list[str]:
        """Else the planner would bring them back. Returns those that a user had pinned."""
        found = []
        pins = await self._context.catalog.wishes.pins()
        pinned = {(pin.volume, pin.run, pin.step) for pin in pins if pin.until is None}
        for unit in units:
            if unit.step is not None:
                await self._context.catalog.wishes.unpin(volume.name, unit.run, unit.step)
                if unit.key in pinned:
                    found.append(str(CheckpointId(unit.run, unit.step)))
        return found

    async def _confirm(self, target: str, rows: Sequence[FileRow]) -> None:
        try:
            await self._moving.confirm_durable(rows)
        except SourceChanged as error:
            raise OnlyCopy(f"{target}: {error.message}", hint=f"ckptctl flush {target} first") from error
