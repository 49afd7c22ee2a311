"""From inotify's events to Changes: pure, one event after the other.

Three things make it more than a table (inotify(7), "Limitations and caveats"):

- A rename is two events with a common cookie. Others may come between them, and the second is missing when the file
  leaves the volume. So the first waits for the second, until something happens at the same path or `expire` is called.
- While a directory waits like this, what happens inside it waits too: its new path is not known yet.
- The disk is ahead of the queue. A directory that is listed now shows the outcome of renames whose events come later.
  Every event therefore has the effect it has on the *tree as known*, and a moved directory is explored again at its
  new place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from watchdog.observers.inotify_c import InotifyConstants as In
from watchdog.observers.inotify_c import InotifyEvent

from ckptd.domain.changes import Deleted, Lost, Moved, ObjectSettled, Scanned
from ckptd.fronts.watch.steps import Explore, Look, Rescan, Step, Unwatch, Why
from ckptd.fronts.watch.tree import Node, Tree
from ckptd.fronts.watch.walk import Found
from ckptd.tiers.object_names import number_of

IS_DIRECTORY = int(In.IN_ISDIR)
_ROOT_GONE = int(In.IN_DELETE_SELF | In.IN_MOVE_SELF | In.IN_UNMOUNT | In.IN_IGNORED)
_SELF = int(In.IN_DELETE_SELF | In.IN_MOVE_SELF | In.IN_UNMOUNT)

PRIVATE = ".ckptd-"
"""Names that start like this are the daemon's own and never reported."""


@dataclass(slots=True)
class _Departure:
    """The first half of a rename."""

    source: str
    directory: bool
    node: Node | None
    later: list[InotifyEvent] = field(default_factory=list)


class Translator:
    """Keeps the tree of watched directories. Each step it yields must be carried out before the next is asked for."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.objects_wd: int | None = None
        """Watch of the directory of demoted files, if there is one."""
        self._departures: dict[int, _Departure] = {}
        self._stale = False

    @property
    def waiting(self) -> bool:
        """Whether a rename waits for its second half."""
        return bool(self._departures)

    @property
    def doubtful(self) -> bool:
        """Whether the volume should be scanned when it is quiet.

        A directory was found elsewhere than it was known to be: its files have been reported at its new place, and
        renames that are told later were applied to them again. It takes several renames of directories in quick
        succession.
        """
        return self._stale or self.tree.strayed

    def feed(self, event: InotifyEvent) -> Iterator[Step]:
        if event.mask & In.IN_Q_OVERFLOW:
            yield Rescan()
            return
        if event.wd == self.objects_wd:
            yield from self._object(event)
            return
        node = self.tree.of(event.wd)
        if node is None:
            return  # a directory that is known to be gone, or was displaced
        if node is self.tree.root and event.mask & _ROOT_GONE:
            yield Lost(_reason(event.mask))
        elif event.mask & In.IN_IGNORED:
            yield from self._forget(node)
        elif not event.mask & _SELF:
            top = self.tree.top(node)
            departure = next((found for found in self._departures.values() if found.node is top), None)
            if departure is not None:
                departure.later.append(event)
            elif top is self.tree.root:
                yield from self._entry(event, node)

    def expire(self) -> Iterator[Step]:
        """The grace for second halves is over: what still waits has left the volume."""
        while self._departures:
            yield from self._gone(self._departures.pop(next(iter(self._departures))))

    def explored(self, step: Explore, found: Found) -> Iterator[Step]:
        """Takes what the walk of a directory found into the tree and reports its files."""
        actual = next((directory.wd for directory in found.directories if directory.path == step.path), None)
        self._stale |= step.believed is not None and actual != step.believed
        for directory in found.directories:
            self.tree.attach(directory.path, directory.wd, directory.identity)
        unneeded = self.tree.sweep()
        if unneeded:
            yield Unwatch(tuple(unneeded))
        if found.files:
            yield Scanned(step.path, found.files, complete=False)

    def _object(self, event: InotifyEvent) -> Iterator[Step]:
        number = number_of(os.fsdecode(event.name))
        if event.mask & In.IN_CLOSE_WRITE and number is not None:
            yield ObjectSettled(number)
        elif event.mask & In.IN_IGNORED:
            yield Lost("the directory of demoted files was deleted")

    def _entry(self, event: InotifyEvent, parent: Node) -> Iterator[Step]:
        """Something happened to a name in a directory."""
        name, directory = os.fsdecode(event.name), bool(event.mask & IS_DIRECTORY)
        above = self.tree.path(parent)
        path = f"{above}/{name}" if above else name
        if self._departures:
            yield from self._conflicts(path, event.cookie)
        if event.mask & In.IN_MOVED_TO:
            yield from self._arrived(event, parent, name, path)
        elif name.startswith(PRIVATE) or not name:
            return
        elif event.mask & In.IN_MOVED_FROM:
            node = parent.children.get(name) if directory else None
            if node is not None:
                self.tree.cut(node)
            self._departures[event.cookie] = _Departure(path, directory, node)
        elif directory:
            yield from self._directory(event, parent, name, path)
        elif event.mask & In.IN_DELETE:
            yield Deleted(path, directory=False)
        elif event.mask & In.IN_CREATE:
            yield Look(path, Why.CREATED)
        elif event.mask & In.IN_CLOSE_WRITE:
            yield Look(path, Why.CLOSED)
        elif event.mask & In.IN_ATTRIB:
            yield Look(path, Why.TOUCHED)

    def _directory(self, event: InotifyEvent, parent: Node, name: str, path: str) -> Iterator[Step]:
        if event.mask & In.IN_CREATE:
            yield Explore(path)
        elif event.mask & In.IN_DELETE:
            yield from self._forget(parent.children.get(name))
            yield Deleted(path, directory=True)

    def _arrived(self, event: InotifyEvent, parent: Node, name: str, path: str) -> Iterator[Step]:
        """The second half of a rename, or something moved in from outside."""
        departure = self._departures.pop(event.cookie, None)
        directory = bool(event.mask & IS_DIRECTORY)
        if name.startswith(PRIVATE):
            if departure is not None:
                yield from self._gone(departure)
        elif departure is None:
            yield Explore(path) if directory else Look(path, Why.ARRIVED)
        else:
            node = departure.node
            if node is not None and node.parent is None:
                self.tree.graft(node, parent, name)
            yield Moved(departure.source, path, directory)
            yield Explore(path, believed=node.wd if node else None) if directory else Look(path, Why.MOVED)
            yield Look(departure.source, Why.LEFT)
            for event_inside in departure.later:
                yield from self.feed(event_inside)

    def _conflicts(self, path: str, cookie: int) -> Iterator[Step]:
        """Ends the wait of departures that `path` touches: their order with what comes now must be kept."""
        for other, departure in list(self._departures.items()):
            source = departure.source
            touches = path == source or path.startswith(source + "/") or source.startswith(path + "/")
            if other != cookie and touches:
                yield from self._gone(self._departures.pop(other))

    def _gone(self, departure: _Departure) -> Iterator[Step]:
        if departure.directory:
            node = departure.node
            yield from self._forget(node if node is not None and node.parent is None else None)
            yield Deleted(departure.source, directory=True)
        yield Look(departure.source, Why.LEFT if departure.directory else Why.GONE)

    def _forget(self, node: Node | None) -> Iterator[Step]:
        gone: Sequence[int] = self.tree.drop(node) if node is not None else ()
        if gone:
            yield Unwatch(tuple(gone))


def _reason(mask: int) -> str:
    if mask & In.IN_MOVE_SELF:
        return "the volume's directory was moved away"
    if mask & In.IN_UNMOUNT:
        return "the volume's file system was unmounted"
    return "the volume's directory was deleted"
