"""The worker process: one event loop with fronts, catalog, planner and API. Started by the supervisor, never by hand."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from ckptd import __version__, successor
from ckptd.api.peers import peer_of
from ckptd.api.server import application, serve
from ckptd.catalog import Catalog
from ckptd.domain.errors import CkptdError, NotInTime
from ckptd.domain.model import Exposure, OperationKind, Place
from ckptd.engine import leaving_ram, preparing, recovering, reporting
from ckptd.engine.allowance import Allowance
from ckptd.engine.context import Context
from ckptd.engine.engine import Engine
from ckptd.engine.known import KnownManifests
from ckptd.engine.meters import Meters
from ckptd.engine.metrics import render
from ckptd.engine.node import EngineNode
from ckptd.engine.volume import Front, Serving, Volume
from ckptd.fronts.served import Served
from ckptd.fronts.watch import WatchFront
from ckptd.layouts import configure
from ckptd.settings import Settings
from ckptd.settings.quantities import bytes_of
from ckptd.supervisor import log as logging
from ckptd.supervisor.groups import gid_of
from ckptd.tiers.lease import ignore_lease_signals
from ckptd.tiers.pressure import PSI_FILE
from ckptd.transfer.transfers import Transfers

log = structlog.get_logger()

VARIABLE = "CKPTD_WORKER"
_CATCH_UP_S = 5.0
PSI_VARIABLE = "CKPTD_PSI_FILE"
"""Another file than PSI_FILE: the pressure of one control group, or a test's."""
START_ERRORS = 64
"""An error at start is told by this plus its exit code, and not tried again by the supervisor."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What the supervisor says."""

    settings: Settings
    socket_fd: int
    pipe_fd: int
    restarts: int
    last_exit: str
    fronts: dict[str, Front]
    """By volume name."""
    beat_s: float
    """How often the supervisor wants to hear that the loop turns."""
    managed: bool
    """A service manager starts the daemon, at a boot for example: nobody waits for its word."""

    @classmethod
    def read(cls) -> Orders:
        document = json.loads(os.environ.pop(VARIABLE))
        return cls(
            Settings.model_validate(document["settings"]), int(document["socket_fd"]), int(document["pipe_fd"]),
            int(document["restarts"]), str(document["last_exit"] or ""),
            {name: Front(said["front"], said["reason"], said["socket"]) for name, said in document["fronts"].items()},
            float(document["beat_s"]), bool(document["managed"]),
        )  # fmt: skip

    def say(self, message: dict[str, Any]) -> None:
        self._write(json.dumps(message).encode() + b"\n")

    async def beat(self) -> None:
        """For ever: an empty line now and then, from the loop, says that it turns."""
        while True:
            self._write(b"\n")
            await asyncio.sleep(self.beat_s)

    def _write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self.pipe_fd, line)


class _Stop(Exception):
    """The daemon was asked to stop."""


class Worker:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._stopping = asyncio.Event()
        self._flush_first = False
        self._evict = False
        self._served: dict[str, Served] = {}
        """Of each mount, by the volume's name."""
        self.ready = False
        """It has said so."""

    async def run(self) -> None:
        """Serves until it is told to stop. Raises CkptdError when it cannot start, NotInTime when files stay exposed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled)
        beating = asyncio.create_task(self._orders.beat())
        try:
            async with self._context() as context:
                left = await self._serve(context)
        finally:
            beating.cancel()
        if left.files:
            raise NotInTime(
                f"stopped with {left.files} files ({left.bytes} bytes) not durable yet",
                hint="they stay in the tiers and are uploaded after the next start",
            )

    def _signalled(self) -> None:
        self._flush_first = True
        self._stopping.set()

    def _stop(self, evict: bool) -> None:
        self._evict = evict
        self._stopping.set()

    @contextlib.asynccontextmanager
    async def _context(self) -> AsyncIterator[Context]:
        settings = self._orders.settings
        configure(layout.to_pattern() for layout in settings.layouts)
        tiers = preparing.prepare_tiers(
            settings, watched=not all(front.is_mount for front in self._orders.fronts.values())
        )
        catalog = await Catalog.open(Path(settings.node.state_dir, "catalog.db"))
        try:
            transfer = settings.transfer
            async with Transfers(
                parallel=transfer.parallel, part_size=transfer.part_size, bandwidth=transfer.bandwidth,
                movers=transfer.movers, reuse=transfer.reuse, journal=catalog.journal,
            ) as transfers:  # fmt: skip
                volumes = {
                    v.name: preparing.prepare_volume(v, tiers, transfers, self._orders.fronts[v.name])
                    for v in settings.volumes
                }
                known, ram = KnownManifests(catalog), tiers.get(Place.RAM)
                share = bytes_of(settings.access.user_budget, 0 if ram is None else ram.budget)
                yield Context(
                    settings.node.name, f"ckptd {__version__}", catalog, transfers, known, volumes, tiers, time.time,
                    user_budget=share,
                    meters=Meters(volumes),
                )  # fmt: skip
        finally:
            await catalog.close()

    async def _serve(self, context: Context) -> Exposure:
        transfer = self._orders.settings.transfer
        psi_file = os.environ.get(PSI_VARIABLE) or PSI_FILE
        engine = Engine(
            context,
            ahead=2 * transfer.parallel * transfer.part_size,
            psi_file=psi_file,
            scrub=self._orders.settings.scrub.to_policy(),
            probe_every_s=self._orders.settings.probe.every,
            fsync_timeout_s=transfer.fsync_timeout,
        )
        left = Exposure(0, 0, None)
        try:
            async with asyncio.TaskGroup() as group:
                context.group = group
                await preparing.check_paths(context.catalog, context.volumes.values())
                await context.known.load()
                await recovering.settle_ram(context)
                await recovering.settle_objects(context)
                await engine.reaching.meet_all(restarted=bool(self._orders.restarts), managed=self._orders.managed)
                await self._recover(context)
                async with self._fronts(context, engine):
                    await engine.run(group)
                    async with self._api(context, engine):
                        await self._announce(context)
                        await self._stopping.wait()
                        left = await self._last_flush(context, engine)
                raise _Stop  # noqa: TRY301 - the way to end a task group
        except* _Stop:
            pass
        return left

    async def _recover(self, context: Context) -> None:
        catalog = context.catalog
        if catalog.kept is not None:
            message = f"the catalog was corrupt; it is rebuilt from tiers and remote (kept as {catalog.kept})"
            await context.event("error", "catalog.rebuilt", message)
        if self._orders.restarts:
            message = f"the worker was restarted: {self._orders.last_exit}"
            await context.event("warning", "worker.restarted", message, restarts=self._orders.restarts)
        await recovering.mend(context)

    @contextlib.asynccontextmanager
    async def _fronts(self, context: Context, engine: Engine) -> AsyncIterator[None]:
        fronts: list[WatchFront] = []

        async def catch_up() -> None:
            try:
                async with asyncio.timeout(_CATCH_UP_S):
                    for front in fronts:
                        await front.caught_up()
                    await engine.observed()
            except (TimeoutError, OSError) as error:  # a busy job, or a volume that we may not write to
                log.warning("front.not_caught_up", error=str(error))

        async with contextlib.AsyncExitStack() as stack:
            for volume in context.volumes.values():
                front = WatchFront(volume.root, volume.objects, engine.report_for(volume))
                await front.start()
                stack.push_async_callback(front.stop)
                fronts.append(front)
                if volume.front.is_mount:
                    self._serve_mount(context, engine, volume)
            context.catch_up = catch_up
            context.policies_changed = self._policies_changed
            yield

    async def _policies_changed(self, volume: str) -> None:
        if volume in self._served:
            await self._served[volume].agree()

    def _serve_mount(self, context: Context, engine: Engine, volume: Volume) -> None:
        def told(serving: Serving) -> None:
            volume.serving = serving

        bring, wants = partial(engine.opening.bring, volume), engine.opening.wants_room
        replaced = context.meters.mount_restarts.labels(volume.name).inc
        sync, asks = partial(engine.syncing.sync, volume), partial(engine.syncing.may_wait, volume)
        served = Served(volume.front.socket, bring, told, wants, replaced, sync, asks)
        context.spawn(served.run(), f"mount of {volume.name}")
        self._served[volume.name] = served

    @contextlib.asynccontextmanager
    async def _api(self, context: Context, engine: Engine) -> AsyncIterator[None]:
        access, ram = self._orders.settings.access, context.tiers.get(Place.RAM)
        share = 0 if ram is None else ram.budget
        node = EngineNode(
            context, engine.reconciler, engine.operations, engine.choosing,
            allowance=Allowance(bytes_of(access.user_pins, share)), version=__version__, restarts=self._orders.restarts,
            state_dir=self._orders.settings.node.state_dir, stop=self._stop,
            upgrade=partial(successor.upgrade, context, list(self._served.values())), metrics=render,
        )  # fmt: skip
        listening = socket.socket(fileno=self._orders.socket_fd)
        async with contextlib.AsyncExitStack() as stack:
            authorise = partial(peer_of, admin_gid=gid_of(access.admin_group, "access.admin_group"))
            served = await serve(application(node, authorise), listening)
            stack.push_async_callback(served.end)
            if address := self._orders.settings.node.metrics:
                stack.push_async_callback((await _serve_metrics(node, address)).cleanup)
            yield

    async def _announce(self, context: Context) -> None:
        await asyncio.gather(*(served.agree() for served in self._served.values()))
        gc.freeze()  # what was made so far stays: collections need not look at it again
        gc.enable()
        self._orders.say({"ok": True})
        self.ready = True
        await context.event(
            "info", "daemon.ready", f"serving {', '.join(sorted(context.volumes))}", version=__version__
        )

    async def _last_flush(self, context: Context, engine: Engine) -> Exposure:
        """SIGTERM flushes within the limit; `down` has flushed already (or was told not to). Says what is still exposed."""
        if self._flush_first:
            limit = self._orders.settings.node.shutdown_timeout
            arguments = {"timeout": f"{limit:g}"}
            operation = await engine.operations.start(OperationKind.DRAIN, "", "", arguments)
            async for _ in engine.operations.follow(operation.id):
                pass
        if self._evict:
            await self._evict_everything(engine)
        await leaving_ram.mark(context)
        left = reporting.exposure(await engine.reconciler.look(), context.clock())
        await context.event(
            "info" if not left.files else "warning", "daemon.stopped", "stopped", exposed_bytes=left.bytes
        )
        return left if self._flush_first else Exposure(0, 0, None)

    async def _evict_everything(self, engine: Engine) -> None:
        view = await engine.reconciler.look()
        for unit in view.units:
            for row in unit.rows:
                if row.link is None and row.durable and row.local() is not None:
                    with contextlib.suppress(CkptdError):  # somebody reads it: it stays
                        await engine.actions.moving.drop_local(row)
            if unit.step is not None:
                await engine.actions.moving.fold(unit.volume, unit.run, unit.step)


async def _serve_metrics(node: EngineNode, address: str) -> web.AppRunner:
    host, _, port = address.rpartition(":")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=await node.metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    return runner


def _run(work: Coroutine[Any, Any, None]) -> None:
    """On uvloop, which takes 14 % less of the worker's CPU for 5,000 small files (docs/dependencies.md); all works without."""
    try:
        import uvloop  # noqa: PLC0415 - not to be had on every machine
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def main() -> int:
    # Where a thread derives what follows from very many files, the loop does not wait 5 ms for each turn.
    sys.setswitchinterval(0.001)
    gc.disable()  # until it is ready: what a start makes stays, and looking for garbage takes half of the time of a large one
    orders = Orders.read()
    logging.configure("worker")
    ignore_lease_signals()
    worker = Worker(orders)
    try:
        _run(worker.run())
    except (CkptdError, BaseExceptionGroup) as raised:
        error = _first(raised)
        if error is None:
            raise
        log.error("worker.stopped", error=error.message, hint=error.hint)
        if not worker.ready:
            orders.say({"ok": False, "message": error.message, "hint": error.hint, "code": error.code})
        return START_ERRORS + error.exit_code
    return 0


def _first(raised: BaseException) -> CkptdError | None:
    """The error to tell, if nothing else than errors that we know ended the worker."""
    while isinstance(raised, BaseExceptionGroup):
        raised = raised.exceptions[0]
    return raised if isinstance(raised, CkptdError) else None


if __name__ == "__main__":
    sys.exit(main())
