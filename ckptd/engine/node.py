"""What the API asks of the daemon (implements `ckptd.api.node.Node`)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from ckptd.catalog import PinRow
from ckptd.domain.access import Identity, Whose
from ckptd.domain.errors import Busy, CkptdError, IntegrityError, NotKnown, OnlyCopy, UsageError
from ckptd.domain.history import RunAccount
from ckptd.domain.launch import JobRun
from ckptd.domain.model import (
    CheckpointReport,
    DiffReport,
    EffectivePolicy,
    EventRecord,
    NodeReport,
    Operation,
    OperationKind,
    OperationState,
    Place,
    PolicyPreview,
    PolicyRow,
    RunReport,
    ShutdownReport,
    TagReport,
    UpgradeReport,
)
from ckptd.domain.names import CheckpointId
from ckptd.engine import owning, policies, reporting
from ckptd.engine.allowance import Allowance
from ckptd.engine.context import Context
from ckptd.engine.differing import difference
from ckptd.engine.jobs import Jobs
from ckptd.engine.meters import Meters
from ckptd.engine.metrics import Counts
from ckptd.engine.operations import Operations
from ckptd.engine.prefetching import Choosing
from ckptd.engine.previewing import Previewing
from ckptd.engine.reconciler import Reconciler
from ckptd.engine.removing import refuse_tagged
from ckptd.engine.resumes import members_of, slowest
from ckptd.engine.tagging import Tagging
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume
from ckptd.policy.accounting import account
from ckptd.policy.policy import Policy
from ckptd.tiers.holders import holders


class EngineNode:
    def __init__(
        self, context: Context, reconciler: Reconciler, operations: Operations, choosing: Choosing,
        *, allowance: Allowance, version: str, restarts: int, state_dir: str, stop: Callable[[bool], None],
        upgrade: Callable[[], Awaitable[UpgradeReport]], metrics: Callable[[NodeReport, Mapping[str, Counts], Meters], bytes],
    ) -> None:  # fmt: skip
        self._context = context
        self._reconciler = reconciler
        self._operations = operations
        self._choosing = choosing
        self._tagging = Tagging(context)
        self._allowance = allowance
        self._jobs = Jobs(context, reconciler)
        self._version = version
        self._restarts = restarts
        self._state_dir = state_dir
        self._stop = stop
        self._upgrade = upgrade
        self._metrics = metrics
        self._started = time.monotonic()

    async def report(self) -> NodeReport:
        return await reporting.node(
            self._context, await self._reconciler.recent(), self._operations.running(),
            version=self._version, started=self._started, restarts=self._restarts, state_dir=self._state_dir,
        )  # fmt: skip

    async def runs(self, volume: str | None) -> list[RunReport]:
        asked = [self._context.volume(volume)] if volume else self._context.volumes.values()
        await asyncio.gather(*(self._refresh_all(one) for one in asked))
        return reporting.runs(await self._reconciler.recent(), self._context.clock(), volume)

    async def _refresh_all(self, volume: Volume) -> None:
        """Other nodes commit too; a remote that does not answer soon is shown as it was known last."""
        with contextlib.suppress(TimeoutError, CkptdError):
            async with asyncio.timeout(5.0):
                await self._context.known.refresh(volume)
                await self._tagging.refresh(volume)
                await self._context.list_plain(volume.name)

    async def checkpoints(self, volume: str | None, run: str) -> list[CheckpointReport]:
        served = self._context.volume(volume)
        await self._tagging.fresh(served, run)
        await self._choosing.fresh(served, run, must=False, shown=True)
        units = self._reconciler.view.run(served.name, run)
        if not units:
            raise NotKnown(f"there is no run '{run}' in volume {served.name}", hint="see: ckptctl ls")
        pins = await self._context.catalog.wishes.pins()
        newest_first = sorted((u for u in units if u.step is not None), key=lambda u: u.step or 0, reverse=True)
        return [await self._report(unit, pins) for unit in newest_first]

    async def _report(self, unit: Unit, pins: Sequence[PinRow] | None = None) -> CheckpointReport:
        pins = await self._context.catalog.wishes.pins() if pins is None else pins
        return reporting.checkpoint(self._context, self._reconciler.view, unit, pins)

    async def latest(self, volume: str | None, run: str) -> CheckpointReport:
        served = self._context.volume(volume)
        # A run may have an '@' in its name; otherwise it is a checkpoint by step or tag: `latest run-42@best`.
        known = bool(self._reconciler.view.run(served.name, run))
        target = await self._tagging.resolve(served, CheckpointId(run) if known else CheckpointId.parse(run))
        unit = await self._choosing.restorable(served, target)
        self._context.meters.lookups.labels(served.name, "latest", slowest(members_of(unit))).inc()
        return await self._report(unit)

    async def account(self, volume: str | None, run: str, gpus: int | None, mtbf_s: float) -> RunAccount:
        served, history = self._context.volume(volume), self._context.catalog.history
        saves, resumes = await history.saves(served.name, run), await history.resumes(served.name, run)
        if not (saves or resumes or self._reconciler.view.run(served.name, run)):
            raise NotKnown(f"there is no run '{run}' in volume {served.name}", hint="see: ckptctl ls")
        probe = await history.probe(served.name)
        return account(served.name, run, self._context.node, saves, resumes, probe, mtbf_s=mtbf_s, gpus=gpus)

    async def whose(
        self, volume: str | None, run: str | None = None, *, afresh: bool = False
    ) -> Mapping[tuple[str, str], Whose]:
        if run is None:
            return owning.of_all(self._context, (await self._reconciler.recent()).units)
        served = self._context.volume(volume)
        if afresh:
            await self._context.catch_up()  # what was just saved can be named
            await self._choosing.fresh(served, run, must=False)
        found = owning.of_run(self._context, served, run, self._reconciler.view.run(served.name, run))
        return {(served.name, run): found} if found.owners else {}

    async def start(
        self, kind: OperationKind, volume: str | None, target: CheckpointId | None, arguments: Mapping[str, str],
        *, by: Identity,
    ) -> Operation:  # fmt: skip
        if target is None:
            if kind not in (OperationKind.FLUSH, OperationKind.SCRUB, OperationKind.DRAIN):
                raise UsageError(f"{kind} needs a RUN[@STEP]")
            name = volume if volume is None else self._context.volume(volume).name
            return await self._operations.start(kind, name or "", "", arguments, by.uid)
        served = self._context.volume(volume)
        target = await self._tagging.resolve(served, target)
        unit = await self._refuse_early(kind, served, target, arguments)
        async with self._allowance.asking:
            self._allowance.operation(by, self._operations)
            if kind is OperationKind.PREFETCH and unit is not None:
                await self._may_pin(by, unit)
            begun = await self._operations.start(kind, served.name, str(target), arguments, by.uid)
            if kind is OperationKind.PREFETCH and unit is not None:
                self._allowance.fetching[begun.id] = unit.key
        return begun

    async def _may_pin(self, by: Identity, unit: Unit) -> None:
        await self._allowance.pin(by, unit, self._reconciler.view.by_name, self._context.catalog, self._operations)

    async def _refuse_early(
        self, kind: OperationKind, volume: Volume, target: CheckpointId, arguments: Mapping[str, str]
    ) -> Unit | None:
        """What cannot be is refused before it becomes an operation. Returns the checkpoint where one that is whole is meant."""
        if kind in (OperationKind.PREFETCH, OperationKind.VERIFY, OperationKind.RESTORE):
            return await self._choosing.restorable(volume, target)
        await self._context.catch_up()  # what was just saved can be named
        await self._choosing.fresh(volume, target.run, must=False)
        units = [u for u in self._reconciler.view.run(volume.name, target.run) if target.step in (None, u.step)]
        if not units:
            what = f"run '{target.run}'" if target.step is None else f"checkpoint {target}"
            raise NotKnown(f"there is no {what} in volume {volume.name}", hint="see: ckptctl ls")
        if kind is OperationKind.REMOVE and "force" not in arguments:
            refuse_tagged(units)
        if kind is OperationKind.EVICT and "force" not in arguments:
            exposed = [row.path for unit in units for row in unit.rows if row.local() and not row.durable]
            if exposed:
                raise OnlyCopy(
                    f"{target}: {len(exposed)} files are not durable yet, e.g. {exposed[0]}",
                    hint=f"first: ckptctl flush {target}",
                )
        return None

    async def operation(self, operation: int) -> Operation:
        return await self._operations.get(operation)

    async def operations(self) -> list[Operation]:
        return await self._operations.recent()

    async def cancel(self, operation: int) -> Operation:
        return await self._operations.cancel(operation)

    def follow(self, operation: int) -> AsyncIterator[Operation]:
        return self._operations.follow(operation)

    async def pin(
        self, volume: str | None, target: CheckpointId, on: bool, *, by: Identity, temporary: bool = False
    ) -> CheckpointReport:
        served = self._context.volume(volume)
        target = await self._tagging.resolve(served, target)
        if on:
            unit = await self._choosing.restorable(served, target)
        else:
            await self._choosing.fresh(served, target.run, must=False)
            found = [u for u in self._reconciler.view.run(served.name, target.run) if u.step is not None]
            meant = [u for u in found if target.step in (None, u.step)]
            if not meant:
                raise NotKnown(f"there is no checkpoint {target} in volume {served.name}", hint="see: ckptctl ls")
            unit = meant[-1]
        if unit.step is None:
            raise IntegrityError(f"{target} is no checkpoint")
        if on:
            async with self._allowance.asking:
                await self._may_pin(by, unit)
                its = served.name, unit.run, unit.step
                await self._context.catalog.wishes.pin(PinRow(*its, Place.RAM, None, by.uid))
            if unit.cold:  # the planner only knows of files that are, or lately were, on this node
                name = str(CheckpointId(unit.run, unit.step))
                await self._operations.start(OperationKind.PREFETCH, served.name, name, {}, by.uid)
        else:
            await self._context.catalog.wishes.unpin(served.name, unit.run, unit.step, temporary=temporary)
        self._context.wake()
        return await self._report(unit)

    async def tags(self, volume: str | None, run: str | None) -> list[TagReport]:
        asked = [self._context.volume(volume)] if volume else list(self._context.volumes.values())
        for one in asked:
            await self._tagging.fresh(one, run)
            if run is not None:
                await self._choosing.fresh(one, run, must=False)
        if run is not None and not any(self._reconciler.view.run(one.name, run) for one in asked):
            raise NotKnown(
                f"there is no run '{run}' in volume {', '.join(one.name for one in asked)}", hint="see: ckptctl ls"
            )
        return [tag for one in asked for tag in await self._tagging.list(one.name, run)]

    async def set_tag(self, volume: str | None, target: CheckpointId, name: str, *, by: Identity) -> TagReport:
        served = self._context.volume(volume)
        await self._context.catch_up()  # what was just saved can be named
        unit = await self._choosing.restorable(served, await self._tagging.resolve(served, target))
        if unit.step is None:
            raise IntegrityError(f"{target} is no checkpoint")
        await self._allowance.tag(by, served.name, unit.run, name, self._context.catalog)
        return await self._tagging.set(served, unit.run, unit.step, name)

    async def delete_tag(self, volume: str | None, run: str, name: str) -> None:
        await self._tagging.delete(self._context.volume(volume), run, [name])

    async def diff(self, volume: str | None, one: CheckpointId, other: CheckpointId) -> DiffReport:
        served = self._context.volume(volume)
        await self._context.catch_up()
        named = [await self._tagging.resolve(served, target) for target in (one, other)]
        for run in sorted({target.run for target in named}):
            await self._choosing.fresh(served, run, must=False)
        return difference(*(self._named(served, target) for target in named))

    def _named(self, volume: Volume, target: CheckpointId) -> Unit:
        """Whatever its state: what is torn can be compared too."""
        units = [unit for unit in self._reconciler.view.run(volume.name, target.run) if unit.step is not None]
        if target.step is None:
            units = [unit for unit in units if unit.restorable]
        found = [unit for unit in units if target.step in (None, unit.step)]
        if not found:
            raise NotKnown(f"there is no checkpoint {target} in volume {volume.name}", hint="see: ckptctl ls")
        return found[-1]

    async def policies(self, volume: str | None) -> list[PolicyRow]:
        served = self._context.volume(volume)
        rows = await self._context.catalog.wishes.policies(served.name)
        return [PolicyRow(served.name, pattern, rows[pattern]) for pattern in sorted(rows, key=policies.specificity)]

    async def effective_policy(self, volume: str | None, run: str) -> EffectivePolicy:
        served = self._context.volume(volume)
        patterns = await owning.policies(self._context, served)
        defaults = policies.texts(Policy())
        configured = policies.texts(served.policy)
        sources = {key: "default" if configured[key] == defaults[key] else "config" for key in policies.KEYS}
        for pattern in policies.matching(patterns, run):
            sources |= dict.fromkeys(patterns[pattern], pattern)
        values = policies.texts(policies.effective(served.policy, patterns, run))
        return EffectivePolicy(served.name, run, values, sources)

    async def set_policy(
        self, volume: str | None, pattern: str, values: Mapping[str, str], *, by: Identity
    ) -> PolicyRow:
        served = self._context.volume(volume)
        await self._allowance.policy(by, served.name, pattern, self._context.catalog)
        for key, value in values.items():
            policies.parse(key, value)
        policies.refuse_unheard(served, values)
        owner = owning.owner_of(self._context, served, pattern)
        merged = await self._context.catalog.wishes.set_policy(
            served.name, pattern, dict(values), by.uid,
            None if by.administrator else by.uid if owner is None else owner,
            afresh=pattern not in await owning.policies(self._context, served),
        )  # fmt: skip
        await self._context.policies_changed(served.name)
        self._context.wake()
        return PolicyRow(served.name, pattern, merged)

    async def preview_policy(self, volume: str | None, pattern: str, values: Mapping[str, str]) -> PolicyPreview:
        return await Previewing(self._context, self._reconciler).preview(self._context.volume(volume), pattern, values)

    async def unset_policy(self, volume: str | None, pattern: str) -> None:
        served = self._context.volume(volume)
        if not await self._context.catalog.wishes.unset_policy(served.name, pattern):
            raise NotKnown(f"no policy is set for '{pattern}'", hint="see: ckptctl policy show")
        await self._context.policies_changed(served.name)
        self._context.wake()

    async def jobs(self, uid: int, everywhere: bool) -> list[JobRun]:
        if everywhere:
            await asyncio.gather(*(self._refresh_all(one) for one in self._context.volumes.values()))
        return await self._jobs.of_user(uid, everywhere=everywhere)

    async def job_ended(self, job: int, uid: int, runs: Sequence[tuple[str, str]]) -> list[RunReport]:
        return await self._jobs.ended(job, uid, runs)

    async def events(self, after: int, limit: int) -> list[EventRecord]:
        return await self._context.catalog.events.since(after, limit)

    async def follow_events(self, after: int) -> AsyncIterator[EventRecord]:
        while True:
            records = await self._context.catalog.events.since(after, 1000)
            for record in records:
                yield record
                after = record.id
            async with self._context.news:
                if not await self._context.catalog.events.since(after, 1):
                    await self._context.news.wait()

    async def shutdown(self, flush: bool, timeout: float | None, evict: bool, force: bool) -> ShutdownReport:
        if not force:
            await self._refuse_busy()
        left = reporting.exposure(await self._reconciler.look(), self._context.clock())
        if not flush:
            self._stop(evict)
            return ShutdownReport(left, None)
        arguments = {} if timeout is None else {"timeout": f"{timeout:g}"}
        operation = await self._operations.start(OperationKind.DRAIN, "", "", arguments)
        self._context.spawn(self._stop_after(operation.id, evict), "stop after flush")
        return ShutdownReport(left, operation)

    async def _refuse_busy(self) -> None:
        """An unmount takes their files from those who have them open. Raises Busy."""
        for volume in self._context.volumes.values():
            if volume.front.is_mount and (found := await asyncio.to_thread(holders, volume.path)):
                raise Busy(
                    f"{volume.path} is in use: {'; '.join(map(str, found))}",
                    hint="end them, or ckptctl down --force, after which their reads and writes fail",
                )

    async def _stop_after(self, operation: int, evict: bool) -> None:
        states = [final.state async for final in self._operations.follow(operation)]
        if states[-1] is OperationState.DONE:
            self._stop(evict)

    async def upgrade(self) -> UpgradeReport:
        return await self._upgrade()

    async def metrics(self) -> bytes:
        report, context = await self.report(), self._context
        return self._metrics(report, await reporting.counts(context, self._reconciler.view), context.meters)
