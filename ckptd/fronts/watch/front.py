"""The watch front: a plain directory, and inotify to learn what the job does in it.

Threads: the reader takes events from the kernel at once (so that the kernel's queue stays short) and hands them to the
event loop in batches; everything else runs on the loop, one event after the other, so that changes are reported in
order. Only walks of the whole volume run in a thread of their own; what arrives meanwhile waits in `_inbox`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator

import structlog
from watchdog.observers.inotify_c import InotifyEvent

from ckptd.domain.changes import Change, Lost, ObjectSettled, Scanned, Trouble
from ckptd.domain.errors import StateUnusable
from ckptd.fronts.watch.look import outcome
from ckptd.fronts.watch.reader import OBJECTS, Reader
from ckptd.fronts.watch.steps import Explore, Look, PassOver, Rescan, Step, Unwatch
from ckptd.fronts.watch.translate import PRIVATE, Translator
from ckptd.fronts.watch.walk import Found, Walker
from ckptd.tiers.object_names import number_of

_log = structlog.get_logger(__name__)

GRACE_S = 0.05
"""How long the first half of a rename waits for its second. They are queued microseconds apart."""
RESCAN_S = 5.0
"""How often directories that cannot be watched are listed."""


class WatchFront:
    """Reports what happens under `root` to `report`, on the event loop, in order.

    `objects` is the flat directory of demoted files, which the job writes to through its links. `overflowed` counts the
    queue overflows that were repaired by a full scan.
    """

    def __init__(
        self,
        root: str,
        objects: str | None,
        report: Callable[[Change], None],
        *,
        rescan_s: float = RESCAN_S,
        grace_s: float = GRACE_S,
    ) -> None:
        self._root = root
        self._objects = objects
        self._report = report
        self._rescan_s = rescan_s
        self._grace_s = grace_s
        self._translator = Translator()
        self._inbox: deque[InotifyEvent] = deque()
        self._paused = True
        self._lost = False
        self._wanted = asyncio.Event()
        self._grace: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._reader: Reader | None = None
        self._walker = Walker(root, self._watch, PRIVATE)
        self._blind: dict[str, int] = {}
        self._incomplete = False
        self._special: set[str] = set()
        self._awaited: dict[bytes, asyncio.Future[None]] = {}
        self.overflowed = 0

    @property
    def watches(self) -> int:
        return len(self._translator.tree)

    @property
    def blind(self) -> tuple[str, ...]:
        """Directories that cannot be watched; they are listed every `rescan_s` instead."""
        return tuple(self._blind)

    async def start(self) -> None:
        """Watches and lists the volume; its files have been reported when this returns.

        Raises StateUnusable if the kernel gives no inotify instance or the volume cannot be opened.
        """
        loop = asyncio.get_running_loop()
        try:
            self._reader = Reader(lambda events: _hand_over(loop, self._received, events))
        except OSError as error:
            raise StateUnusable(
                f"cannot watch {self._root}: {error.strerror}",
                hint="raise the limit: sysctl -w fs.inotify.max_user_instances=1024",
            ) from error
        self._reader.start()
        try:
            await self._scan_everything()
        except OSError as error:
            await self.stop()
            raise StateUnusable(
                f"cannot watch {self._root}: {error.strerror}", hint="is the directory there?"
            ) from error
        self._keeper = asyncio.create_task(self._keep())
        self._keeper.add_done_callback(self._kept)
        self._resume()

    async def stop(self) -> None:
        self._paused = True
        if self._grace:
            self._grace.cancel()
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        self._end_waits(StateUnusable(f"{self._root} is not watched any more"))
        if self._reader:
            self._reader.stop()
            await asyncio.to_thread(self._reader.join)
            self._reader = None

    async def caught_up(self) -> None:
        """Returns when everything that had happened when it was called has been reported.

        A directory of a private name is made and removed: when its event arrives, all earlier ones have. Raises
        OSError, and StateUnusable if the front ends meanwhile.
        """
        if self._lost or self._reader is None:
            raise StateUnusable(f"{self._root} is not watched any more")
        name = os.fsencode(f"{PRIVATE}{secrets.token_hex(6)}")
        arrived = self._awaited[name] = asyncio.get_running_loop().create_future()
        try:
            self._signal(name)
            await arrived
        finally:
            del self._awaited[name]

    def _signal(self, name: bytes) -> None:
        path = os.path.join(os.fsencode(self._root), name)
        os.mkdir(path, mode=0o700)
        os.rmdir(path)

    def _end_waits(self, error: StateUnusable) -> None:
        for awaited in self._awaited.values():
            if not awaited.done():
                awaited.set_exception(error)

    def _watch(self, path: bytes) -> int:
        assert self._reader is not None
        return self._reader.watch(path)

    # --- events -------------------------------------------------------------------------------------------------

    def _received(self, events: list[InotifyEvent]) -> None:
        self._inbox.extend(events)
        self._pump()

    def _pump(self) -> None:
        while self._inbox and not self._paused:
            event = self._inbox.popleft()
            self._take(self._translator.feed(event))
            if (awaited := self._awaited.get(event.name)) is not None and not awaited.done():
                self._take(self._translator.expire())
                if not self._translator.doubtful:
                    awaited.set_result(None)
        if self._translator.doubtful and not self._translator.waiting and not self._paused:
            self._paused = True
            self._wanted.set()
        if self._translator.waiting and not self._grace and not self._paused:
            self._grace = asyncio.get_running_loop().call_later(self._grace_s, self._grace_over)

    def _grace_over(self) -> None:
        self._grace = None
        if not self._paused:
            self._take(self._translator.expire())
            self._pump()

    def _take(self, steps: Iterator[Step]) -> None:
        for step in steps:
            match step:
                case Look():
                    self._take(outcome(self._root, step))
                case PassOver():
                    self._note_special(step.path)
                case Explore():
                    found = self._walker.walk(step.path, self._translator.tree)
                    self._note(found)
                    self._take(self._translator.explored(step, found))
                case Unwatch():
                    for wd in step.watches:
                        assert self._reader is not None
                        self._reader.unwatch(wd)
                case Rescan():
                    self.overflowed += 1
                    _log.warning("front.queue_overflowed", root=_printable(self._root), times=self.overflowed)
                    self._paused = True
                    self._wanted.set()
                case Lost():
                    self._give_up(step.reason)
                case _:
                    self._report(step)

    # --- whole scans --------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Repairs after an overflow, and looks after directories that cannot be watched."""
        while not self._lost:
            try:
                async with asyncio.timeout(self._rescan_s if self._blind else None):
                    await self._wanted.wait()
            except TimeoutError:
                await self._scan_blind()
            else:
                self._wanted.clear()
                try:
                    await self._scan_everything()
                except OSError as error:
                    self._give_up(f"the volume's directory cannot be read: {error.strerror}")
            self._resume()

    def _kept(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            _log.error("front.stopped", root=_printable(self._root), exc_info=error)
            self._give_up(f"the front stopped: {error}")

    def _resume(self) -> None:
        if not self._wanted.is_set() and not self._lost:
            self._paused = False
            self._pump()

    async def _scan_everything(self) -> None:
        """Builds the tree of watches anew: the kernel gives the watches that still stand the same descriptors."""
        assert self._reader is not None
        self._paused = True
        before, fresh = self._translator, Translator()
        found = await asyncio.to_thread(self._walker.walk, "")
        for directory in found.directories:
            fresh.tree.attach(directory.path, directory.wd, directory.identity)
        objects = await asyncio.to_thread(self._watch_objects, fresh)
        self._translator = fresh
        for wd in before.tree.watches() - fresh.tree.watches():
            self._reader.unwatch(wd)
        self._blind.clear()
        self._note(found)
        self._incomplete = found.unread
        self._report(Scanned("", found.files, complete=not found.unread))
        for file in objects:
            self._report(ObjectSettled(file))
        for name in self._awaited:
            self._signal(name)  # the event may be among those that were lost

    def _watch_objects(self, translator: Translator) -> list[int]:
        """All demoted files: any of them may have been written while nobody saw."""
        if self._objects is None:
            return []
        assert self._reader is not None
        os.makedirs(self._objects, mode=0o755, exist_ok=True)
        translator.objects_wd = self._reader.watch(os.fsencode(self._objects), OBJECTS)
        return sorted(number for name in os.listdir(self._objects) if (number := number_of(name)) is not None)

    async def _scan_blind(self) -> None:
        for path in list(self._blind):
            self._paused = True
            if self._blind.pop(path, None) is None:
                continue  # it was found below another one
            found = await asyncio.to_thread(self._walker.walk, path, self._translator.tree)
            self._note(found)
            self._take(self._translator.explored(Explore(path), found))
            if not found.partial and not found.unread:
                self._report(Scanned(path, found.files, complete=True))
        if self._incomplete and all(code == errno.ENOSPC for code in self._blind.values()):
            self._wanted.set()  # what could not be listed can be now: only a whole scan shows which files are gone

    def _note(self, found: Found) -> None:
        for path in found.special:
            self._note_special(path)
        for path, code in found.blind:
            if not self._blind:
                self._wanted_hint(path, code)
            self._blind[path] = code

    def _wanted_hint(self, path: str, code: int) -> None:
        """Says once, not for each directory, that and why some cannot be watched."""
        message = f"cannot watch {_printable(path) or 'the volume'}: {os.strerror(code)}"
        hint = f"its files are noticed every {self._rescan_s:g} s only; let the daemon's user read it"
        if code == errno.ENOSPC:
            message = (
                f"no inotify watches left: {_printable(path)} and what follows is listed every {self._rescan_s:g} s"
            )
            hint = "raise the limit: sysctl -w fs.inotify.max_user_watches=1048576"
        _log.warning("front.directory_unwatched", path=_printable(path), error=os.strerror(code))
        self._report(Trouble(message, hint))

    def _note_special(self, path: str) -> None:
        if path not in self._special:
            self._special.add(path)
            _log.warning("front.special_file_ignored", path=_printable(path))

    def _give_up(self, reason: str) -> None:
        if not self._lost:
            self._lost = self._paused = True
            self._inbox.clear()
            self._report(Lost(reason))
            self._end_waits(StateUnusable(reason))


def _hand_over(
    loop: asyncio.AbstractEventLoop, receive: Callable[[list[InotifyEvent]], None], events: list[InotifyEvent]
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(receive, events)


def _printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
