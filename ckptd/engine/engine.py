"""The engine as a whole: what runs while the daemon serves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from ckptd.domain.changes import Change, Lost, Trouble
from ckptd.domain.errors import CkptdError
from ckptd.domain.model import OperationKind, Place
from ckptd.engine.actions import Actions
from ckptd.engine.checksumming import Checksumming
from ckptd.engine.companions import Companions
from ckptd.engine.context import Context
from ckptd.engine.doubting import Doubting
from ckptd.engine.draining import Draining
from ckptd.engine.flushing import Flushing
from ckptd.engine.identity import identify
from ckptd.engine.idleness import Idleness
from ckptd.engine.mending import Mending
from ckptd.engine.observer import Observer
from ckptd.engine.opening import Opening
from ckptd.engine.operations import Operations
from ckptd.engine.plain import PlainObjects
from ckptd.engine.prefetching import Choosing, Prefetching
from ckptd.engine.probing import Probing
from ckptd.engine.reaching import Reaching
from ckptd.engine.reconciler import Reconciler
from ckptd.engine.removing import Removing
from ckptd.engine.replacing import Replacing
from ckptd.engine.restoring import Restoring
from ckptd.engine.resumes import Resumes
from ckptd.engine.scrubbing import Scrubbing
from ckptd.engine.staging import clear_staging
from ckptd.engine.stubs import REFRESH_S, Stubs
from ckptd.engine.syncing import Syncing
from ckptd.engine.tagging import Tagging
from ckptd.engine.verifying import Verifying
from ckptd.engine.volume import Volume
from ckptd.manifest.store import Listed
from ckptd.policy.scrub import ScrubPolicy
from ckptd.tiers.pressure import PSI_FILE, Shrinkage, read_psi, shrink

log = structlog.get_logger()

_BATCH = 512
"""Changes handled in one go."""
_HOUSEKEEPING_S = 1.0
_LEFTOVERS_S = 10.0
_STAGING_S = 60.0
_LAG_EVERY_S = 0.5


class Engine:
    def __init__(
        self, context: Context, *, ahead: int, psi_file: str = PSI_FILE, scrub: ScrubPolicy | None = None,
        probe_every_s: float = 0.0, fsync_timeout_s: float = 600.0,
    ) -> None:  # fmt: skip
        self.context = context
        self.actions = Actions(context)
        self.reconciler = Reconciler(context, self.actions, ahead=ahead)
        self.replacing = Replacing(context, self.actions.hydrating)
        self.mending = Mending(context, self.actions.uploading)
        self.choosing = Choosing(context, self.reconciler)
        self.reaching = Reaching(context, self._recognise)
        self.tagging = Tagging(context)
        idleness = Idleness(context, self.reconciler)
        self.scrubbing = Scrubbing(
            context, self.reconciler, idleness, self.choosing, self.replacing, self.mending, scrub or ScrubPolicy()
        )
        self.probing = Probing(context, idleness, probe_every_s)
        self.resumes = Resumes(context)
        context.known.on_refused = self._refused
        self._psi_file = psi_file
        self._shrinkage = Shrinkage()
        self._observers = {name: Observer(context, volume) for name, volume in context.volumes.items()}
        self._inboxes: dict[str, asyncio.Queue[Change]] = {name: asyncio.Queue() for name in context.volumes}
        actions = self.actions
        doubting = Doubting(context, self.choosing, self.replacing, self.mending)
        prefetching = Prefetching(
            context, self.choosing, self.reconciler, actions.hydrating, doubting, actions.moving, actions.retention,
            self.resumes,
        )  # fmt: skip
        self._plain = {
            name: PlainObjects(context, volume, actions.moving)
            for name, volume in context.volumes.items()
            if volume.front.is_mount
        }
        self.opening = Opening(context, prefetching, actions.hydrating, self.resumes)
        self.syncing = Syncing(context, actions, self.reconciler, patience_s=fsync_timeout_s)
        removing = Removing(context, self.choosing, self.reconciler, actions.moving, actions.retention)
        flushing = Flushing(context, self.reconciler, actions.uploading)
        self.operations = Operations(
            context,
            {
                OperationKind.PREFETCH: prefetching.prefetch,
                OperationKind.FLUSH: flushing.flush,
                OperationKind.DRAIN: Draining(context, self.reconciler, flushing).drain,
                OperationKind.VERIFY: Verifying(context, self.choosing, self.replacing, self.mending).verify,
                OperationKind.RESTORE: Restoring(context, self.choosing, doubting).restore,
                OperationKind.REMOVE: removing.remove,
                OperationKind.EVICT: removing.evict,
                OperationKind.CHECKSUM: Checksumming(context, self.reconciler).checksum,
                OperationKind.SCRUB: self.scrubbing.scrub,
            },
        )

    def report_for(self, volume: Volume) -> Callable[[Change], None]:
        """What the volume's front calls with each change."""
        return self._inboxes[volume.name].put_nowait

    async def _recognise(self, volume: Volume) -> None:
        """What lies here and was seen before the remote's manifests were known may be what they describe."""
        rows = await self.context.catalog.files.all(volume.name)
        unknown = [row.path for row in rows if row.closed and not row.durable and row.checksums is None]
        await self._observers[volume.name].recognise(unknown)

    async def _refused(self, volume: str, item: Listed, error: CkptdError) -> None:
        await self.context.event(
            "warning", "manifest.refused", f"{error.message}: {item.run}@{item.step} of node {item.node} is not offered",
            volume=volume, run=item.run, step=item.step, key=item.key, hint=error.hint,
        )  # fmt: skip

    async def observed(self) -> None:
        """Returns when everything that fronts have reported so far is in the catalog."""
        for inbox in self._inboxes.values():
            await inbox.join()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Starts everything in `group`; cancelling the group ends it."""
        context = self.context
        context.group = group
        for name in self._inboxes:
            context.spawn(self._observe(name), f"observe {name}")
        context.spawn(self._keep_house(), "housekeeping")
        for volume in context.volumes.values():
            context.spawn(self._clear_leftovers(volume), f"leftovers of {volume.name}")
        context.spawn(self._clear_staging(), "staging")
        context.spawn(self.reaching.run(), "reaching")
        context.look_again = lambda volume, change: self._inboxes[volume].put_nowait(change)
        context.spawn(self.tagging.run(), "tags")
        await identify(context)
        context.launches.update(await context.catalog.nodes.launches())
        await self.observed()
        await self.actions.milestones.load()
        await self.reconciler.look()
        for volume in context.volumes.values():
            await self.syncing.warn(volume)
            context.spawn(Companions(context, self.reconciler, volume).run(), f"other nodes of {volume.name}")
            if volume.front.is_mount:
                plain = self._plain[volume.name]
                context.spawn(self._show_cold(volume, plain), f"cold files of {volume.name}")
                context.spawn(self._list_plain(plain), f"listing of {volume.name}")
        context.list_plain = self._list_at_once
        context.spawn(self.reconciler.run(), "reconciler")
        context.spawn(self.scrubbing.run(), "scrub")
        context.spawn(self.probing.run(), "probe")
        context.spawn(self._watch_lag(), "lag of the loop")
        await self.operations.resume()

    async def _observe(self, name: str) -> None:
        inbox, observer = self._inboxes[name], self._observers[name]
        while True:
            batch = [await inbox.get()]
            while len(batch) < _BATCH and not inbox.empty():
                batch.append(inbox.get_nowait())
            await self._told(name, batch)
            await self._handled(name, observer, batch)
            for _ in batch:
                inbox.task_done()

    async def _handled(self, name: str, observer: Observer, batch: list[Change]) -> None:
        """A catalog that cannot be written (its disk is full) delays what happened, it does not lose it. A file that cannot
        be looked at (its disk fails) must not keep the others from being seen.
        """
        wait = 0.5
        while True:
            try:
                await observer.handle(batch)
            except CkptdError as error:
                log.error("observe.failed", error=error.message, hint=error.hint, again_in_s=wait)
                await asyncio.sleep(wait)
                wait = min(30.0, wait * 2)
            except OSError as error:
                if len(batch) == 1:
                    await self._passed_over(name, batch[0], error)
                else:
                    for change in batch:
                        await self._handled(name, observer, [change])
                return
            else:
                return

    async def _passed_over(self, volume: str, change: Change, error: OSError) -> None:
        log.warning("observe.passed_over", change=repr(change)[:300], error=str(error)[:300])
        message = f"a change in volume {volume} was passed over: {error.strerror or error}"
        hint = "the daemon's log names the path; the next start looks at it again"
        with contextlib.suppress(CkptdError):
            await self.context.event("warning", "front.trouble", message, volume=volume, hint=hint)

    async def _told(self, volume: str, batch: list[Change]) -> None:
        """What the front says about itself."""
        for change in batch:
            if isinstance(change, Lost):
                message = f"volume {volume} is not watched any more: {change.reason}"
                await self.context.event(
                    "error",
                    "front.lost",
                    message,
                    volume=volume,
                    hint="ckptctl down --no-flush, then up: what is not durable is sent then",
                )
            elif isinstance(change, Trouble):
                await self.context.event("warning", "front.trouble", change.message, volume=volume, hint=change.hint)

    async def _list_plain(self, plain: PlainObjects) -> None:
        """Again after a while; a remote that is not met yet is asked after soon."""
        while True:
            pause = _HOUSEKEEPING_S
            with contextlib.suppress(CkptdError, OSError):
                pause = max(REFRESH_S, await plain.refresh())
            await asyncio.sleep(pause)

    async def _list_at_once(self, volume: str) -> None:
        if volume in self._plain:
            await self._plain[volume].refresh()
            await self._plain[volume].in_sight.wait()

    async def _show_cold(self, volume: Volume, plain: PlainObjects) -> None:
        """Keeps in sight what the remote has, as it is known; what other nodes commit is looked for now and then."""
        stubs, loop = Stubs(self.context, volume), asyncio.get_running_loop()
        refreshed = -REFRESH_S
        while True:
            if loop.time() - refreshed >= REFRESH_S:
                with contextlib.suppress(CkptdError, TimeoutError):
                    async with asyncio.timeout(REFRESH_S / 2):
                        await self.context.known.refresh(volume)
                refreshed = loop.time()
                await self.reconciler.recent()
            shown, gone, plain.gone = plain.shown, plain.gone, set()
            await stubs.show(self.reconciler.view.units, shown, gone)
            if shown is not None and shown is plain.shown:
                plain.in_sight.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S), self.context.changed:
                    await self.context.changed.wait()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            self._follow_pressure()
            with contextlib.suppress(CkptdError, OSError):
                await self._look_at_open_files()

    async def _watch_lag(self) -> None:
        loop, lag = asyncio.get_running_loop(), self.context.meters.loop_lag
        while True:
            due = loop.time() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            lag.observe(max(0.0, loop.time() - due))

    async def _clear_leftovers(self, volume: Volume) -> None:
        """On its own: a remote that does not answer must keep neither the house nor another remote waiting."""
        while True:
            await asyncio.sleep(_LEFTOVERS_S)
            with contextlib.suppress(CkptdError):
                await self.actions.retention.clear_leftovers(volume)

    async def _clear_staging(self) -> None:
        while True:
            await asyncio.sleep(_STAGING_S)
            with contextlib.suppress(CkptdError, OSError):
                await clear_staging(self.context)

    def _follow_pressure(self) -> None:
        tier = self.context.tiers.get(Place.RAM)
        if tier is None:
            return
        loop = asyncio.get_running_loop()
        before = self._shrinkage.factor
        self._shrinkage = shrink(self._shrinkage, read_psi(self._psi_file), loop.time())
        tier.factor = self._shrinkage.factor
        if tier.factor != before:
            level = "warning" if tier.factor < before else "info"
            if tier.factor < before:
                self.context.meters.pressure_shrinks.inc()
            message = f"memory pressure: the RAM tier may hold {tier.factor:.0%} of its budget"
            self.context.spawn(self._pressure_event(level, message), "pressure event")
            self.context.wake()

    async def _pressure_event(self, level: str, message: str) -> None:
        await self.context.event(level, "tier.pressure", message, tier="ram")

    async def _look_at_open_files(self) -> None:
        for name, observer in self._observers.items():
            rows = [row for unit in self.reconciler.view.units if unit.volume == name for row in unit.open_rows]
            if rows:
                await observer.look_at_open(rows)
                self.context.wake()
