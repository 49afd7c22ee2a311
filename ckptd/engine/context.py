"""What the parts of the engine share: collaborators, the running work, and how to tell that something happened."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from ckptd.catalog import Catalog
from ckptd.domain.changes import Change
from ckptd.domain.errors import NotKnown, RemoteError, StateUnusable, UsageError
from ckptd.domain.launch import Launch
from ckptd.domain.model import EventRecord, Place, ScrubReport
from ckptd.engine.known import KnownManifests
from ckptd.engine.meters import Meters
from ckptd.engine.retries import Retries
from ckptd.engine.volume import Tier, Volume
from ckptd.manifest import ManifestEntry
from ckptd.transfer.transfers import Transfers

log = structlog.get_logger()

_CLAIM_POLL_S = 0.05
"""Two operations on the same file are rare; the second one looks this often whether the first is done."""


@dataclass(slots=True)
class Running:
    """A task of the engine on one file or unit."""

    task: asyncio.Task[None]
    uploading: bool = False
    moving_to: Place | None = None
    size: int = 0
    leaving: bool = False
    """It frees what the file occupies."""
    claim: bool = False
    """An operation holds it: not to be cancelled for one file's sake."""
    volume: str = ""
    owner: int = 0
    """The user whose file it is."""


async def _at_once() -> None: ...


async def _as_before(volume: str) -> None:
    del volume


def _ignore(volume: str, change: Change) -> None:
    del volume, change


@dataclass(slots=True)
class Context:
    node: str
    writer: str
    """Program and version, for manifests."""
    catalog: Catalog
    transfers: Transfers
    known: KnownManifests
    volumes: dict[str, Volume]
    tiers: dict[Place, Tier]
    clock: Callable[[], float]
    retries: Retries = field(default_factory=Retries)
    files: dict[int, Running] = field(default_factory=dict)
    """Work on files, by id."""
    busy_units: dict[tuple[str, str, int | None], asyncio.Task[None]] = field(default_factory=dict)
    wanted: dict[Place, int] = field(default_factory=dict)
    """Bytes that operations wait for room for, by tier."""
    deleting: set[str] = field(default_factory=set)
    """Keys whose deletion is on its way."""
    committing: set[str] = field(default_factory=set)
    """Keys that a manifest on its way describes: no leftovers, although `known` does not name them yet."""
    copied: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Generation and bytes, by file: what of it the remote copied instead of receiving it. For the report at the commit."""
    remotes_down: dict[str, str] = field(default_factory=dict)
    """Remotes that are known, and reported, to be unreachable: name -> why."""
    flushed: Counter[tuple[str, str, int | None]] = field(default_factory=Counter)
    """Checkpoints that a running flush names: they are sent even if `sync = latest` would skip them."""
    draining: int = 0
    """Operations that empty this node of what is exposed."""
    foreign: set[tuple[str, str]] = field(default_factory=set)
    """Runs, by volume and name, of which it was told that their directory here is another user's than the remote's."""
    user_budget: int = 0
    """Bytes that one user's checkpoints may take of the RAM tier; 0: as many as there are."""
    daemon: str = ""
    """Tells two daemons apart that bear the same node name; kept with the catalog."""
    daemon_since: float = 0.0
    """When this catalog was made: what bears our node name and is older is of an earlier life of this node."""
    namesakes: set[str] = field(default_factory=set)
    """Volumes to whose remote another daemon writes under our node name, as was told already."""
    launches: dict[tuple[str, str, int], Launch] = field(default_factory=dict)
    """How the jobs were launched that write checkpoints here, by volume, run and step."""
    unmet: dict[str, str] = field(default_factory=dict)
    """Volumes whose remote did not answer yet since the start, or may not be used: name -> why. See `reaching`."""
    wake_event: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    """Notified after every look of the reconciler: what waits for a state looks again."""
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    """Notified after every event record."""
    scrub: ScrubReport = field(default_factory=ScrubReport)
    """How far the background check is."""
    meters: Meters = field(default_factory=Meters)
    group: asyncio.TaskGroup | None = None
    catch_up: Callable[[], Awaitable[None]] = _at_once
    """Returns when what jobs had done when it was called is in the catalog (or that takes too long)."""

    policies_changed: Callable[[str], Awaitable[None]] = _as_before
    """Told of a volume whose policies were set anew, before that is called done."""
    list_plain: Callable[[str], Awaitable[None]] = _as_before
    """Looks at once for what is in a volume's remote without a manifest, where that is shown. Raises RemoteError."""
    synced: dict[int, ManifestEntry] = field(default_factory=dict)
    """What was sent of files that were open, by id. See `syncing`."""

    look_again: Callable[[str, Change], object] = _ignore
    """Handles a change of a volume that its front did not tell, or not yet."""

    def wake(self) -> None:
        """Something changed: have the reconciler look soon."""
        self.wake_event.set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        if self.group is None:
            work.close()
            raise RuntimeError("the engine is not running")
        # A context of its own: what is started from inside a transaction is not inside it.
        return self.group.create_task(work, name=name, context=contextvars.Context())

    async def to_the_end(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Runs a section that a cancellation of the caller must not cut in two. Raises what the section raises."""
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def section() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - handed on to the caller, not swallowed
                if not outcome.cancelled():
                    outcome.set_exception(error)
            else:
                if not outcome.cancelled():
                    outcome.set_result(None)

        task = self.spawn(section(), name)
        try:
            await asyncio.shield(outcome)
        except asyncio.CancelledError:
            # What the caller holds (its claim on the file) protects the section: it is kept until the section is over.
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            if outcome.done() and (error := outcome.exception()) is not None:
                log.info("section.failed", section=name, error=str(error))
            raise

    @contextlib.asynccontextmanager
    async def claimed(
        self, files: Collection[int], *, moving_to: Place | None = None, size: int = 0
    ) -> AsyncIterator[None]:
        """Keeps the planner's hands off files while an operation works on them; what is done to them now is stopped first.

        `size`: bytes on their way to the tier `moving_to`.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can claim files")
        mine = Running(task, moving_to=moving_to, size=size, claim=True)
        try:
            for file in files:
                while (running := self.files.get(file)) is not None and running.task is not task:
                    if running.claim:
                        await asyncio.sleep(_CLAIM_POLL_S)
                    else:
                        running.task.cancel()
                        await asyncio.wait([running.task])
                        await asyncio.sleep(0)  # its callback gives the file free
                self.files[file] = mine
            yield
        finally:
            for file in files:
                if self.files.get(file) is mine:
                    del self.files[file]
            self.wake()

    def require_met(self, volume: str) -> None:
        """Before anything is written to a remote. Raises RemoteError."""
        if volume in self.unmet:
            raise RemoteError(self.unmet[volume], hint="it is tried again by itself", retryable=True)

    def volume(self, name: str | None) -> Volume:
        if name is None:
            if len(self.volumes) != 1:
                raise UsageError(
                    f"{len(self.volumes)} volumes are served: {', '.join(sorted(self.volumes))}",
                    hint="name one with --volume",
                )
            return next(iter(self.volumes.values()))
        if name not in self.volumes:
            raise NotKnown(f"no volume '{name}' is served here", hint=f"served: {', '.join(sorted(self.volumes))}")
        return self.volumes[name]

    async def event(self, level: str, event: str, message: str, **fields: object) -> EventRecord | None:
        """Records what happened, in the log and for `ckptctl events`."""
        texts = {key: str(value) for key, value in fields.items()}
        getattr(log, level)(event, message=message, **texts)
        self.meters.events.labels(event, level).inc()
        try:
            record = await self.catalog.events.add(self.clock(), level, event, message, texts)
        except StateUnusable as error:  # a full disk must not stop the work; the log line above stands
            log.error("events.unwritable", error=error.message)
            return None
        async with self.news:
            self.news.notify_all()
        return record

    def cancel_file(self, file: int) -> None:
        """Stops the work on a file: its content changed, or it is gone."""
        running = self.files.get(file)
        if running is not None and not running.claim:
            running.task.cancel()
