"""The loop: look, plan, act, wait for news.

Concurrency: everything runs on one event loop. A look reads rows and running work without awaiting in between more than the
catalog's reads; what follows from very many rows is derived in a thread, from a copy of the running work of that moment.
Actions check their file's generation again in the transaction that records their outcome, so a change between look and record
makes the record void, never wrong. Only this loop starts actions, and it never starts two on a file.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import structlog

from ckptd.catalog import FileRow, PinRow, UnitName
from ckptd.domain.errors import Busy, CkptdError, RemoteError, SourceChanged
from ckptd.domain.model import CheckpointState, Place
from ckptd.engine import owning, snapshot
from ckptd.engine.actions import Actions
from ckptd.engine.context import Context, Running
from ckptd.engine.fullness import Fullness
from ckptd.engine.grouping import grouped
from ckptd.engine.known import Committed
from ckptd.engine.policies import effective
from ckptd.engine.protecting import protect
from ckptd.engine.retries import move_of
from ckptd.engine.tagging import Tagging
from ckptd.engine.unit import Unit, skipped
from ckptd.engine.units import MANY_ROWS, assemble_units
from ckptd.policy.actions import Abandon, Action, Commit, Demote, Evict, Promote, Prune, Uncommit, Upload
from ckptd.policy.plan import plan
from ckptd.policy.policy import Policy
from ckptd.policy.snapshot import Snapshot

log = structlog.get_logger()

Answer = TypeVar("Answer")
Work = Coroutine[Any, Any, None]

_LONGEST_WAIT_S = 5.0
_GATHER_S = 0.02
"""News come in bursts: a file closed is mostly followed by the next one of its checkpoint opened."""
_UPLOADS_BEGUN = 256
"""Uploads that are begun at a time, at most: of a file, or of a group of small ones."""
_LONGEST_PAUSE_S = 3.0
_SOON_S = 0.25
"""Within which a look is waited for by those who only ask how things are."""
_MOVES_AT_A_TIME = 2
"""Demotions and promotions compete with the job for memory bandwidth."""


@dataclass(frozen=True, slots=True)
class Begun:
    tasks: int = 0
    bytes: int = 0

    def __add__(self, other: Begun) -> Begun:
        return Begun(self.tasks + other.tasks, self.bytes + other.bytes)


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


_BUSY_S = 5.0
"""The longest wait for a file that is not what the catalog says, or that somebody holds open: nothing tells when that ends."""


class Reconciler:
    def __init__(self, context: Context, actions: Actions, *, ahead: int) -> None:
        """`ahead`: bytes of uploads that may be begun at a time, of each volume."""
        self._context = context
        self._actions = actions
        self._ahead = ahead
        self._fullness = Fullness(context)
        self.view = View()
        self._uploads: dict[tuple[str, int], Begun] = defaultdict(Begun)
        """By volume and owner, what is under way, counted anew for each plan."""
        self._seen_at = context.clock()
        self._tagging = Tagging(context)
        self._looking = asyncio.Lock()
        """Held while a view is made: an older one never replaces a newer one."""
        self._took = 0.0
        """Seconds: the last look, if there was much to look at; on a busy machine a small one may take long, too."""

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
            await asyncio.sleep(min(took, _LONGEST_PAUSE_S))
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
        async with self._looking:
            await self._derived(lambda _context, _view: None)
        return self.view

    async def recent(self) -> View:
        """For what is only shown: where a look takes long, the last one, which is renewed by itself when something changes."""
        return self.view if self._took > _SOON_S else await self.look()

    async def _derived(self, then: Callable[[Context, View], Answer]) -> Answer:
        """Looks, and asks `then` what follows from it and from the running work of the same moment."""
        context = self._context
        now = context.clock()
        if now < self._seen_at - 1.0:
            context.retries.after_jump(now)
        self._seen_at = now
        patterns = {name: await owning.policies(context, volume) for name, volume in context.volumes.items()}
        tags = await self._tagging.by_unit()
        grouped_rows = await context.catalog.files.by_unit()
        rows = {unit: its for unit, its in grouped_rows.items() if unit[0] in context.volumes}
        known: dict[UnitName, Committed] = {key: its for key, its in context.known.units() if key[0] in context.volumes}
        runs = {unit[:2] for unit in rows} | {key[:2] for key in known}
        policies = {
            (volume, run): effective(context.volumes[volume].policy, patterns[volume], run) for volume, run in runs
        }
        # The same objects where nothing changed: comparing thousands of units' policies is quicker then.
        policies = {run: old if (old := self.view.policies.get(run)) == new else new for run, new in policies.items()}
        before = self.view.by_name
        roots = {volume.name: (volume.path, volume.root) for volume in context.volumes.values()}
        launches, withdrawn = dict(context.launches), context.known.withdrawn()

        def derive(context: Context) -> tuple[View, Answer]:
            units = assemble_units(
                rows, known.items(), policies, now, before, node=context.node, launches=launches, withdrawn=withdrawn
            )
            protect(units, tags, context.flushed, roots)
            view = View(units, policies, now, {unit.key: unit for unit in units})
            return view, then(context, view)

        begun = time.monotonic()
        much = self._much(rows, known)
        if much:
            self.view, answer = await asyncio.to_thread(derive, _as_it_is(context))
        else:
            self.view, answer = derive(context)
        self._took = time.monotonic() - begun if much else 0.0
        return answer

    def _much(self, rows: Mapping[UnitName, Sequence[FileRow]], known: Mapping[UnitName, Committed]) -> bool:
        """Whether there are many rows in units that something happens to."""
        kept, before = self._context.catalog.files.kept, self.view.by_name
        busy = {row.unit for file in self._context.files if (row := kept(file)) is not None}

        def anew(name: UnitName, its: Sequence[FileRow]) -> bool:
            old = before.get(name)
            return (
                name in busy
                or old is None
                or old.rows is not its
                or old.committed is not known.get(name)
                or old.wake_at is not None
            )

        return sum(len(its) for name, its in rows.items() if anew(name, its)) > MANY_ROWS

    async def reconcile(self) -> None:
        context = self._context
        await context.catalog.wishes.expire_pins(context.clock())
        pins = await context.catalog.wishes.pins()
        begun = frozenset(
            int(key.split("/")[1]) for key in await context.catalog.journal.keys() if key.startswith("up/")
        )
        async with self._looking:
            # Last, and nothing awaited from its rows to the plan: a move that ends in between would be counted nowhere.
            seen, actions = await self._derived(lambda context, view: _planned(context, view, pins, begun))
        uploads = [action for action in actions if isinstance(action, Upload)]
        for action in actions:
            if not isinstance(action, Upload):
                self._begin(action)
        self._begin_uploads(uploads, begun)
        async with context.changed:
            context.changed.notify_all()
        await self._fullness.look(seen)
        await owning.tell_foreign(context, seen)
        await self._actions.milestones.look(self.view.by_name)
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

    def _begin_uploads(self, uploads: Sequence[Upload], begun: Collection[int]) -> None:
        self._count_uploads()
        singly = self._actions.uploading.singly
        kept = self._context.catalog.files.kept
        for group in grouped(uploads, kept, lambda file: file not in singly and file not in begun):
            rows = [row for upload in group if (row := kept(upload.file)) is not None]
            if not rows or not self._may_upload(rows):
                continue
            if len(group) == 1:
                file, generation = group[0].file, group[0].generation
                self._on_file(file, self._actions.upload(file, generation), uploading=True)
            else:
                self._on_group({upload.file: upload.generation for upload in group})

    def _count_uploads(self) -> None:
        self._uploads.clear()
        counted: set[object] = set()
        for work in self._context.files.values():
            if work.uploading:
                self._uploads[work.volume, work.owner] += Begun(int(work.task not in counted), work.size)
                counted.add(work.task)

    def _may_upload(self, rows: Sequence[FileRow]) -> bool:
        """Enough to keep every slot busy until the next look, and no more: what is begun keeps its place in the queue. Of each
        volume and each owner for himself: its remote may not let go of what was begun, and a flood is not to be in the way of
        another's checkpoint. `rows`: of one volume and owner, that go together.
        """
        party = rows[0].volume, rows[0].attributes.uid
        begun = self._uploads[party]
        if begun.tasks >= _UPLOADS_BEGUN or begun.bytes >= self._ahead:
            return False
        self._uploads[party] = begun + Begun(1, sum(row.size for row in rows))
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
        task = context.spawn(self._guarded((key,), work), f"file {file}")
        volume, owner = ("", 0) if row is None else (row.volume, row.attributes.uid)
        context.files[file] = Running(task, uploading, moving_to, size, leaving, volume=volume, owner=owner)

        def ended(_: object) -> None:
            running = context.files.get(file)
            if running is not None and running.task is task:
                del context.files[file]
            context.wake()

        task.add_done_callback(ended)

    def _on_group(self, files: dict[int, int]) -> None:
        context = self._context
        free = {file: generation for file, generation in files.items() if file not in context.files}
        if not free:
            return
        task = context.spawn(self._guarded(tuple(free), self._actions.upload_several(free)), f"{len(free)} files")
        for file in free:
            if (row := context.catalog.files.kept(file)) is not None:
                context.files[file] = Running(
                    task, uploading=True, size=row.size, volume=row.volume, owner=row.attributes.uid
                )

        def ended(_: object) -> None:
            for file in free:
                if (running := context.files.get(file)) is not None and running.task is task:
                    del context.files[file]
            context.wake()

        task.add_done_callback(ended)

    def _on_unit(self, key: tuple[str, str, int | None], work: Work) -> None:
        context = self._context
        if key in context.busy_units:  # since the look
            work.close()
            return
        task = context.spawn(self._guarded((key,), work), f"unit {key}")
        context.busy_units[key] = task

        def ended(_: object) -> None:
            context.busy_units.pop(key, None)
            context.wake()

        task.add_done_callback(ended)

    def _count_failure(self, keys: tuple[object, ...]) -> None:
        """Of uploads, whose keys are file ids; what else the remote refuses shows in its health."""
        for key in keys:
            if isinstance(key, int) and (row := self._context.catalog.files.kept(key)) is not None:
                self._context.meters.upload_failures.labels(row.volume).inc()

    async def _guarded(self, keys: tuple[object, ...], work: Work) -> None:
        """Runs an action; a failure is remembered and tried again later, it never ends the engine."""
        retries, now, what = self._context.retries, self._context.clock, keys[0]

        def failed(**first: float) -> float:
            return max(retries.failed(key, now(), **first) for key in keys)

        try:
            await work
            for key in keys:
                retries.succeeded(key)
        except (SourceChanged, Busy):
            failed(first_s=0.2, longest_s=_BUSY_S)
        except RemoteError as error:
            self._count_failure(keys)
            log.warning("remote.failed", work=str(what), error=error.message, again_in_s=round(failed() - now(), 1))
        except CkptdError as error:
            failed()
            await self._context.event("error", "work.failed", error.message, hint=error.hint, work=what)
        except OSError as error:
            failed()
            await self._context.event("error", "work.failed", f"{error.filename or what}: {error.strerror}", work=what)


def _as_it_is(context: Context) -> Context:
    """Of this moment, for a thread: what goes on meanwhile is not in it."""
    return replace(
        context, files=dict(context.files), busy_units=dict(context.busy_units), retries=context.retries.copy(),
        flushed=context.flushed.copy(),
    )  # fmt: skip


def _planned(
    context: Context, view: View, pins: Sequence[PinRow], begun: frozenset[int]
) -> tuple[Snapshot, tuple[Action, ...]]:
    seen = snapshot.take(context, view.units, pins, view.policies, begun)
    return seen, plan(seen, context.clock())
