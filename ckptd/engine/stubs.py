"""What a mounted volume shows of the remote: a stub for each file that a checkpoint has there and this node has not.

Follows the reconciler's view. Only what can be restored is shown: a checkpoint that is torn, in quarantine, or of which other
nodes' parts are missing, is not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import structlog

from ckptd.domain.errors import CkptdError, Conflict
from ckptd.domain.model import Attributes
from ckptd.engine import adopting
from ckptd.engine.context import Context
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume
from ckptd.tiers import swap
from ckptd.tiers.beneath import parent_of, unlink_link
from ckptd.tiers.stub import Stub, is_stub

log = structlog.get_logger()

REFRESH_S = 30.0
"""How long a checkpoint that another node committed may stay out of sight; `ckptctl ls` looks at once."""
_Key = tuple[str, int | None]
_PLAIN: _Key = ("/", None)
"""No run is called so."""
_IN_ONE_TURN = 200
"""Stubs made before the rest of the daemon has its turn: some ms."""
_BREATH_S = 0.005
"""… for so long: what inotify tells of very many stubs is to be handled meanwhile, not all at once after them."""


def stub_of(size: int, attributes: Attributes) -> Stub:
    return Stub(attributes.mode, attributes.uid, attributes.gid, size, attributes.mtime_ns)


class Stubs:
    """Of one volume."""

    def __init__(self, context: Context, volume: Volume) -> None:
        self._context = context
        self._volume = volume
        self._seen: dict[_Key, tuple[object, object]] = {}
        """What was made of a unit depends on these alone: the same objects mean that nothing changed."""
        self._shown: dict[_Key, Mapping[str, Stub]] = {}
        self._plain: Mapping[str, Stub] = {}
        self._before: frozenset[str] | None = None
        """What an earlier worker has made, until all is known that is wanted; None: not looked for yet."""

    async def show(self, units: Sequence[Unit], plain: Mapping[str, Stub] | None, gone: Collection[str] = ()) -> None:
        """`units`: all that the reconciler knows; those of other volumes are passed over. `plain`: what no manifest describes;
        None while that is not known. `gone`: what stands for nothing any more, of those that were fetched.
        """
        if self._before is None:
            self._before = await self._found()
        mine = {(unit.run, unit.step): unit for unit in units if unit.volume == self._volume.name}
        if plain is not None and plain is not self._plain:
            # What is new first, and what goes last: a name that changes sides is never away.
            await self._replace(_PLAIN, {**self._plain, **plain})
        for key in [key for key in self._shown if key not in mine and key != _PLAIN]:
            await self._replace(key, {})
            self._seen.pop(key, None)
        for key, unit in mine.items():
            now = (unit.rows, unit.committed)
            seen = self._seen.get(key)
            if seen is None or seen[0] is not now[0] or seen[1] is not now[1]:
                wanted = dict(_wanted(unit))
                place = self._has_place(unit) if wanted else True
                await self._replace(key, wanted if place else {})
                if place:
                    self._links(unit)
                self._seen[key] = now
        if plain is not None:
            if plain is not self._plain:
                await self._replace(_PLAIN, plain)
                self._plain = plain
            for path in {*self._before, *gone}.difference(*self._shown.values()):
                self._take_away(path)
            self._before = frozenset()

    def _has_place(self, unit: Unit) -> bool:
        """Makes its directories. False where they cannot be: somebody else has one of their names here."""
        try:
            adopting.make_directories(self._volume, unit)
        except (CkptdError, OSError, ValueError) as error:
            log.info("stub.no_place", volume=self._volume.name, run=unit.run, step=unit.step, error=str(error))
            return False
        return True

    async def _found(self) -> frozenset[str]:
        """What an earlier worker has made: it stays in sight until it is known what is wanted."""

        def walk() -> Iterator[str]:
            for folder, _, names in os.walk(self._volume.root):
                for name in names:
                    path = os.path.join(folder, name)
                    if os.path.islink(path) and is_stub(os.readlink(path)):
                        yield os.path.relpath(path, self._volume.root)

        return await asyncio.to_thread(lambda: frozenset(walk()))

    async def _replace(self, key: _Key, wanted: Mapping[str, Stub]) -> None:
        shown = self._shown.pop(key, {})
        done = 0
        for path, stub in wanted.items():
            if shown.get(path) != stub:
                self._make(path, stub)
                done += 1
                if done % _IN_ONE_TURN == 0:
                    await asyncio.sleep(_BREATH_S)
        for path in (shown.keys() - wanted.keys()).difference(*self._others(key)):
            self._take_away(path)
        if wanted:
            self._shown[key] = wanted

    def _others(self, key: _Key) -> Iterable[Mapping[str, Stub]]:
        """Those to which a name of `key` may have gone over: from a checkpoint to what none describes, or the other way."""
        return self._shown.values() if key == _PLAIN else [self._shown.get(_PLAIN, {})]

    def _make(self, path: str, stub: Stub) -> None:
        root = self._volume.root
        old = swap.stub_at(root, path)
        if old == stub.target:
            return
        try:
            if old is None:
                swap.stub_in(root, path, stub.target, (stub.uid, stub.gid))
            else:
                swap.link_back(root, path, stub.target, stub.uid, stub.gid, replacing=old)
        except (CkptdError, OSError, ValueError) as error:  # the job has something there, or no file may be called so
            log.info("stub.not_made", volume=self._volume.name, path=path, error=str(error))

    def _take_away(self, path: str) -> None:
        stub = swap.stub_at(self._volume.root, path)
        if stub is not None:
            self._volume.taken_away.add(path)
            unlink_link(self._volume.root, path, stub)
            self._remove_empty(os.path.dirname(path))

    def _remove_empty(self, folder: str) -> None:
        """A checkpoint's directory goes with its last stub; the run's own stays."""
        while "/" in folder:
            try:
                with parent_of(self._volume.root, folder) as (above, name):
                    os.rmdir(name, dir_fd=above)
            except (OSError, Conflict):
                return
            folder = os.path.dirname(folder)

    def _links(self, unit: Unit) -> None:
        """The job's own symbolic links weigh nothing: they are made at once."""
        if unit.committed is None or not unit.committed.whole or unit.step is None:
            return
        if self._context.known.of(unit.volume, unit.run, unit.step) is not unit.committed:
            return  # pruned or committed anew, while stubs were made
        for path, entry in unit.cold.items():
            if entry.link is not None and entry.key not in unit.committed.forgotten:
                try:
                    adopting.link(self._volume, entry)
                except (CkptdError, OSError, ValueError) as error:
                    log.info("link.not_made", volume=self._volume.name, path=path, error=str(error))


def _wanted(unit: Unit) -> Iterator[tuple[str, Stub]]:
    for row in unit.rows:
        if row.link is None and row.closed and row.durable and row.local() is None:
            yield row.path, stub_of(row.size, row.attributes)
    committed = unit.committed
    if committed is None or not committed.whole:
        return
    for path, entry in unit.cold.items():
        if entry.link is None and entry.key not in committed.forgotten:
            yield path, stub_of(entry.size, entry.attributes)
