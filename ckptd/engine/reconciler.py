"""The loop: look, plan, act, wait for news.

Concurrency: everything runs on one event loop. A look reads rows and running work without awaiting in between more than the
catalog's reads; actions check their file's generation again in the transaction that records their outcome, so a change
between look and record makes the record void, never wrong. Only this loop starts actions, and it never starts two on a file.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from ckptd.catalog import FileRow, UnitName
from ckptd.domain.errors import Busy, CkptdError, RemoteError, SourceChanged
from ckptd.domain.model import CheckpointState, Place
from ckptd.engine import snapshot
from ckptd.engine.actions import Actions
from ckptd.engine.context import Context, Running
from ckptd.engine.fullness import Fullness
from ckptd.engine.policies import effective
from ckptd.engine.protecting import protect
from ckptd.engine.retries import move_of
from ckptd.engine.tagging import Tagging
from ckptd.engine.unit import Unit, skipped
from ckptd.engine.units import assemble_units
from ckptd.policy.actions import Abandon, Action, Commit, Demote, Evict, Promote, Prune, Uncommit, Upload
from ckptd.policy.plan import plan
from ckptd.policy.policy import Policy

log = structlog.get_logger()

Work = Coroutine[Any, Any, None]

_LONGEST_WAIT_S = 5.0
_GATHER_S = 0.02
"""News come in bursts: a file closed is mostly followed by the next one of its checkpoint opened."""
_UPLOADS_BEGUN = 256
"""Files whose upload is begun at a time, at most."""
_MOVES_AT_A_TIME = 2
"""Demotions and promotions compete with the job for memory bandwidth."""


@dataclass(frozen=True, slots=True)
class Begun:
    files: int = 0
    bytes: int = 0

    def __add__(self, other: Begun) -> Begun:
        return Begun(self.files + other.files, self.bytes + other.bytes)


@dataclass(slots=True)
class View:
    """What the last look saw; reports and operations read it."""

    units: list[Unit] = field(default_factory=list)
    policies: dict[tuple[str, str], Policy] = field(default_factory=dict)
    at: float = 0.0
    by_name: dict[UnitName, Unit] = field(default_factory=dict)

    def unit(self, volume: str, run: str, step: int | None) -> Unit | None:
        return self.by_name.get((volume, run, step))

    def run(self, volume: str, run: str) -> list[Unit]:
        return [unit for unit in self.units if unit.volume == volume and unit.run == run]

    def held(self, row: FileRow) -> bool:
        """A pointer that is not sent, because the checkpoint that it names will not be committed."""
        named = None if row.points_to is None else self.unit(row.volume, row.run, row.points_to)
        if named is None:
            return False
        ended = named.state in {CheckpointState.TORN, CheckpointState.LOST}
        return ended or skipped(named, self.policies[row.volume, row.run])


class Reconciler:
    def __init__(self, context: Context, actions: Actions, *, ahead: int) -> None:
        """`ahead`: bytes of uploads that may be begun at a time, of each volume."""
        self._context = context
        self._actions = actions
        self._ahead = ahead
        self._fullness = Fullness(context)
        self.view = View()
        self._uploads: dict[str, Begun] = defaultdict(Begun)
        """By volume, what is under way, counted anew for each plan."""
        self._seen_at = context.clock()
        self._tagging = Tagging(context)

    async def run(self) -> None:
        while True:
            self._context.wake_event.clear()
            begun = time.monotonic()
            try:
                await self.reconcile()
            except CkptdError as error:  # the catalog's disk is full: it may have room again later
                log.error("reconcile.failed", error=error.message)
                await asyncio.sleep(1.0)
            took = time.monotonic() - begun
            # A look at many files is not free: leave half of the time to the rest of the daemon.
            await asyncio.sleep(min(took, 0.5))
            try:
                async with asyncio.timeout(self._wait()):
                    await self._context.wake_event.wait()
                    await asyncio.sleep(_GATHER_S)
            except TimeoutError:
                pass

    def _wait(self) -> float:
        now = self._context.clock()
        dues = [unit.wake_at for unit in self.view.units if unit.wake_at is not None]
        if (retry := self._context.retries.next(now)) is not None:
            dues.append(retry)
        return max(0.005, min([_LONGEST_WAIT_S, *(due - now for due in dues)]))

    async def look(self) -> View:
        """Derives everything anew."""
        context = self._context
        now = context.clock()
        if now < self._seen_at - 1.0:
            context.retries.after_jump(now)
        self._seen_at = now
        patterns = {name: await context.catalog.wishes.policies(name) for name in context.volumes}
        tags = await self._tagging.by_unit()
        grouped = await context.catalog.files.by_unit()
        rows = {unit: its for unit, its in grouped.items() if unit[0] in context.volumes}
        known = [item for item in context.known.units() if item[0][0] in context.volumes]
        runs = {unit[:2] for unit in rows} | {key[:2] for key, _ in known}
        policies = {
            (volume, run): effective(context.volumes[volume].policy, patterns[volume], run) for volume, run in runs
        }
        # The same objects where nothing changed: comparing thousands of units' policies is quicker then.
        policies = {run: old if (old := self.view.policies.get(run)) == new else new for run, new in policies.items()}
        units = assemble_units(
            rows,
            known,
            policies,
            now,
            self.view.by_name,
            node=context.node,
            launches=context.launches,
            withdrawn=context.known.withdrawn(),
        )
        self.view = View(units, policies, now, {unit.key: unit for unit in units})
        roots = {volume.name: (volume.path, volume.root) for volume in context.volumes.values()}
        protect(self.view.units, tags, context.flushed, roots)
        return self.view

    async def reconcile(self) -> None:
        context = self._context
        await context.catalog.wishes.expire_pins(context.clock())
        pins = await context.catalog.wishes.pins()
        begun = frozenset(
            int(key.split("/")[1]) for key in await context.catalog.journal.keys() if key.startswith("up/")
        )
        # Last, and nothing awaited from its rows to the plan: a move that ends in between would be counted nowhere.
        view = await self.look()
        seen = snapshot.take(context, view.units, pins, view.policies, begun)
        self._count_uploads()
        for action in plan(seen, context.clock()):
            self._begin(action)
        async with context.changed:
            context.changed.notify_all()
        await self._fullness.look(seen)
        await self._tell_health()

    async def _tell_health(self) -> None:
        """Once when a remote goes away and once when it is back, whatever part of the engine has noticed."""
        context = self._context
        for volume in context.volumes.values():
            name, url, health = volume.remote.name, volume.remote.url, context.transfers.health(volume.remote.name)
            if health.needs_somebody and not health.full:
                context.unmet.setdefault(volume.name, health.error)  # it has to show anew that it is the one it was
            if not health.ok and name not in context.remotes_down:
                context.remotes_down[name] = health.error
                message = f"{url}: {health.error}"
                await context.event("warning", "remote.unreachable", message, volume=volume.name, hint=health.hint)
            elif health.ok and name in context.remotes_down and volume.name not in context.unmet:
                del context.remotes_down[name]
                await context.event("info", "remote.back", f"{url} answers again", volume=volume.name)

    def _begin(self, action: Action) -> None:
        match action:
            case Upload(file, generation):
                if self._may_upload(file):
                    self._on_file(file, self._actions.upload(file, generation), uploading=True)
            case Demote(file, generation):
                if self._moves() < _MOVES_AT_A_TIME:
                    self._on_file(file, self._actions.demote(file, generation), moving_to=Place.NVME)
            case Promote(file, generation):
                if self._moves() < _MOVES_AT_A_TIME:
                    self._on_file(file, self._actions.promote(file, generation), moving_to=Place.RAM)
            case Evict(file, generation):
                self._on_file(file, self._actions.evict(file, generation), leaving=True)
            case Commit(volume, run, step):
                self._on_unit(
                    (volume, run, step), self._actions.commit(volume, run, step, self.view.policies, self.view.by_name)
                )
            case Uncommit(volume, run, step):
                self._on_unit(
                    (volume, run, step),
                    self._actions.uncommit(volume, run, step, self.view.policies, self.view.by_name),
                )
            case Abandon(volume, run, step):
                self._on_unit((volume, run, step), self._actions.abandon(volume, run, step))
            case Prune(volume, run, step):
                self._on_unit((volume, run, step), self._actions.prune(volume, run, step))

    def _count_uploads(self) -> None:
        self._uploads.clear()
        for work in self._context.files.values():
            if work.uploading:
                self._uploads[work.volume] += Begun(1, work.size)

    def _may_upload(self, file: int) -> bool:
        """Enough to keep every slot busy until the next look, and no more: what is begun keeps its place in the queue. Of each
        volume for itself: its remote may not let go of what was begun.
        """
        row = self._context.catalog.files.kept(file)
        if row is None:
            return False  # gone since the look
        begun = self._uploads[row.volume]
        if begun.files >= _UPLOADS_BEGUN or begun.bytes >= self._ahead:
            return False
        self._uploads[row.volume] = begun + Begun(1, row.size)
        return True

    def _moves(self) -> int:
        return sum(work.moving_to is not None for work in self._context.files.values())

    def _on_file(
        self, file: int, work: Work, *, uploading: bool = False, moving_to: Place | None = None, leaving: bool = False
    ) -> None:
        context = self._context
        if file in context.files:
            work.close()
            return
        row = context.catalog.files.kept(file)
        size = row.size if (moving_to or uploading) and row is not None else 0
        key = file if uploading else move_of(file)
        task = context.spawn(self._guarded(key, work), f"file {file}")
        volume = "" if row is None else row.volume
        context.files[file] = Running(task, uploading, moving_to, size, leaving, volume=volume)

        def ended(_: object) -> None:
            running = context.files.get(file)
            if running is not None and running.task is task:
                del context.files[file]
            context.wake()

        task.add_done_callback(ended)

    def _on_unit(self, key: tuple[str, str, int | None], work: Work) -> None:
        context = self._context
        task = context.spawn(self._guarded(key, work), f"unit {key}")
        context.busy_units[key] = task

        def ended(_: object) -> None:
            context.busy_units.pop(key, None)
            context.wake()

        task.add_done_callback(ended)

    async def _guarded(self, key: object, work: Work) -> None:
        """Runs an action; a failure is remembered and tried again later, it never ends the engine."""
        retries, now = self._context.retries, self._context.clock
        try:
            await work
            retries.succeeded(key)
        except (SourceChanged, Busy):
            retries.failed(key, now(), first_s=0.2)
        except RemoteError as error:
            at = retries.failed(key, now())
            log.warning("remote.failed", work=str(key), error=error.message, again_in_s=round(at - now(), 1))
        except CkptdError as error:
            retries.failed(key, now())
            await self._context.event("error", "work.failed", error.message, hint=error.hint, work=key)
        except OSError as error:
            retries.failed(key, now())
            await self._context.event("error", "work.failed", f"{error.filename or key}: {error.strerror}", work=key)
