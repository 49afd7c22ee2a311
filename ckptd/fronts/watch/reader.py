"""One inotify instance and the thread that empties it.

This is watchdog's low layer (`InotifyFD`), not its `Observer`: that one holds every half of a rename back for 0.5 s
(`InotifyMoveEventGrouper.delay`), handles a queue overflow itself by throwing pending events away without a word to its
handlers, and reports neither the watch limit nor which directory could not be watched.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from watchdog.observers.inotify_c import (
    DEFAULT_EVENT_BUFFER_SIZE,
    CallbackId,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)
from watchdog.observers.inotify_c import InotifyConstants as In

DIRECTORY = Mask(
    In.IN_CREATE | In.IN_CLOSE_WRITE | In.IN_MOVED_FROM | In.IN_MOVED_TO | In.IN_DELETE | In.IN_DELETE_SELF
    | In.IN_MOVE_SELF | In.IN_ATTRIB | In.IN_ONLYDIR | In.IN_DONT_FOLLOW
)  # fmt: skip
"""Not IN_MODIFY: each write(2) of the job would queue an event and wake us. Measured on tmpfs, 2 cores: 4 KiB writes
fall from 1.14 to 0.57–0.86 GB/s, 1 MiB writes from 2.0 to 1.6–1.75 GB/s, and 1.5 GiB written cost the reader 1.1 s of
CPU in 150,000 wake-ups instead of 8. The price: truncate(2) by path and writes through a mapping that outlives its
descriptor are not seen at once (the stamp that is compared before anything is moved or removed shows them).
"""
OBJECTS = Mask(In.IN_CLOSE_WRITE | In.IN_ONLYDIR | In.IN_DONT_FOLLOW)


class _Silent:
    """watchdog wants a callback a watch; ours are served in batches by `Reader.read_events`."""

    def on_event(self, event: InotifyEvent) -> None: ...
    def on_watch_deleted(self, wd: WatchDescriptor) -> None: ...
    def on_queue_overflow(self) -> None: ...


class Reader(InotifyFD):
    """`hand_over` gets each batch of events on the reader's thread, in the kernel's order."""

    def __init__(self, hand_over: Callable[[list[InotifyEvent]], None]) -> None:
        super().__init__()
        self.name = "ckptd-inotify"
        self._hand_over = hand_over
        self._ids = itertools.count()
        self._id_of: dict[int, CallbackId] = {}

    def read_events(self, *, event_buffer_size: int = DEFAULT_EVENT_BUFFER_SIZE) -> list[InotifyEvent]:
        events = super().read_events(event_buffer_size=event_buffer_size)
        if events:
            self._hand_over(events)
        return events

    def watch(self, path: bytes, mask: Mask = DIRECTORY) -> int:
        """The watch of a directory: the one it has, or a new one. Raises OSError (ENOSPC: no watches left)."""
        fresh = CallbackId(next(self._ids))
        wd = self.add_callback(path, mask, _Silent(), fresh)
        if wd < 0:  # watchdog passes over EACCES in silence
            raise PermissionError(13, os.strerror(13), os.fsdecode(path))
        before = self._id_of.get(wd)
        self._id_of[wd] = fresh
        if before is not None:
            self.remove_callbacks([(wd, before)])
        return wd

    def unwatch(self, wd: int) -> None:
        """A watch that is gone already is fine."""
        id_ = self._id_of.pop(wd, None)
        if id_ is not None:
            self.remove_callbacks([(WatchDescriptor(wd), id_)])
