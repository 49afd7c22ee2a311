"""Objects in a remote that no manifest describes: somebody has put them there with other tools, or before ckptd was used.

A mounted volume shows them (`stubs`), and fetches one when it is opened (`opening`). They are files, not checkpoints: nothing of
them is offered, committed, pruned, or deleted in the remote. What is ckptd's own business is passed over: files that lie here,
steps of which there is or was a manifest, and objects that are about to be deleted. What looks like a checkpoint is shown when
it is whole, as far as names and times tell: it may be one that another node is just sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence

from ckptd.catalog import FileRow
from ckptd.domain.errors import CkptdError, RemoteError
from ckptd.domain.model import CheckpointState, Place
from ckptd.domain.names import key_of, path_of
from ckptd.engine.context import Context
from ckptd.engine.leaving import described_keys
from ckptd.engine.moving import Moving
from ckptd.engine.volume import Volume
from ckptd.layouts import Member, judge, locate, names_of
from ckptd.manifest.checks import check_key
from ckptd.manifest.format import FORMAT_KEY
from ckptd.tiers.stub import Stub
from ckptd.transfer.transfers import ObjectStat

MOST_SHOWN = 50_000
"""Each takes a kilobyte of the kernel's memory, and as much here."""
MOST_LISTED = 500_000
"""Objects that are looked at, with those that manifests describe: five hundred requests."""
QUIET_S = 60.0
"""So long nothing must have come for a checkpoint whose framework writes no last file. As `settle`, but uploads take longer."""
_SHARE = 20
"""A listing that takes long is made less often: it has a twentieth of the time at most."""
_MODE = 0o644
_OURS = ".ckptd/"


class _Listing:
    """What no manifest describes."""

    def __init__(self) -> None:
        self.loose: dict[str, ObjectStat] = {}
        """By path."""
        self.steps: dict[tuple[str, int], dict[str, ObjectStat]] = {}
        """Of what looks like checkpoints, by run and step; the last that came is the last."""
        self._in_steps = 0

    @property
    def count(self) -> int:
        return len(self.loose) + self._in_steps

    def add(self, run: str, step: int, path: str, stat: ObjectStat) -> None:
        its = self.steps.pop((run, step), {})
        its[path] = stat
        self.steps[run, step] = its
        self._in_steps += 1

    def drop_last(self) -> None:
        """The listing was cut short, perhaps in the middle of a checkpoint."""
        if self.steps:
            self.steps.popitem()

    def whole(self, before: Mapping[str, frozenset[str] | None], now: float) -> dict[str, ObjectStat]:
        """`before`: names of files of the checkpoint before, by run."""
        found = dict(self.loose)
        for (run, _), its in self.steps.items():
            members = [Member(path, True, None, stat.modified) for path, stat in its.items()]
            if judge(members, now=now, settle_s=QUIET_S, previous=before[run]).state is CheckpointState.COMPLETE:
                found |= its
        return found


class PlainObjects:
    """Of one volume."""

    def __init__(
        self, context: Context, volume: Volume, moving: Moving,
        *, most_shown: int = MOST_SHOWN, most_listed: int = MOST_LISTED,
    ) -> None:  # fmt: skip
        self._context = context
        self._volume = volume
        self._moving = moving
        self._most_shown, self._most_listed = most_shown, most_listed
        self._alone = asyncio.Lock()
        self._cut = self._told = False
        self.shown: Mapping[str, Stub] | None = None
        """What is to be in sight, by path; None: not listed yet. Never changed, always replaced."""
        self.in_sight = asyncio.Event()
        """That is so: the stubs are made."""
        self.gone: set[str] = set()
        """Paths whose stubs stand for nothing any more."""

    async def refresh(self) -> float:
        """Returns seconds that are to pass before the next time. Raises RemoteError."""
        loop = asyncio.get_running_loop()
        async with self._alone:
            began = loop.time()
            self._context.require_met(self._volume.name)
            listing = await self._list()
            before = {run: self._names_before(run) for run in {run for run, _ in listing.steps}}
            found = await asyncio.to_thread(listing.whole, before, self._context.clock())
            await self._tell(len(found))
            await self._publish(found, await self._follow(found))
            self._context.wake()
            return (loop.time() - began) * _SHARE

    async def _list(self) -> _Listing:
        here = set(await self._context.catalog.files.by_unit())
        listing = _Listing()
        seen, marked = 0, False
        self._cut = False
        async with contextlib.aclosing(self._context.transfers.pages(self._volume.remote, "")) as pages:
            async for page in pages:
                theirs = [stat for stat in page if not stat.key.startswith(_OURS)]
                seen += len(theirs)
                marked = marked or any(stat.key == FORMAT_KEY for stat in page)
                self._add(listing, theirs, here)
                self._cut = seen > self._most_listed or listing.count > self._most_shown
                if self._cut:
                    listing.drop_last()
                    break
        if not (marked or self._cut):
            # A file system that is not mounted has an empty directory: what was fetched must not go.
            hint = f"mount its file system; if it was emptied on purpose, put '{FORMAT_KEY}' back"
            raise RemoteError(f"'{FORMAT_KEY}' is not in {self._volume.remote.url}", hint=hint, retryable=True)
        return listing

    def _add(self, listing: _Listing, stats: Sequence[ObjectStat], here: set[tuple[str, str, int | None]]) -> None:
        """What no manifest describes, of a page."""
        context, name, gone = self._context, self._volume.name, self._context.known.withdrawn()
        loose = {}
        for stat in stats:
            if (path := _path(stat.key)) is None:
                continue
            where = locate(path)
            if where.step is None:
                loose[path] = stat
            elif (
                (its := (name, where.run, where.step)) not in here
                and context.known.of(*its) is None
                and its not in gone
            ):
                listing.add(where.run, where.step, path, stat)
        described = described_keys(context, self._volume, [stat.key for stat in loose.values()])
        listing.loose |= {path: stat for path, stat in loose.items() if stat.key not in described}

    def _names_before(self, run: str) -> frozenset[str] | None:
        """Of the run's newest committed checkpoint."""
        whole = [(key[2], one) for key, one in self._context.known.units(self._volume.name, run) if one.whole]
        if not whole:
            return None
        _, newest = max(whole, key=lambda pair: pair[0])
        return names_of(Member(path, True, None, 0.0) for path in newest.entries())

    async def _tell(self, count: int) -> None:
        if self._cut and not self._told:
            await self._context.event(
                "warning", "listing.cut", f"volume {self._volume.name} shows {count} of the objects that no manifest describes",
                volume=self._volume.name, hint="there are too many: the rest can be had with the store's own tools",
            )  # fmt: skip
        self._told = self._cut

    async def _follow(self, found: Mapping[str, ObjectStat]) -> set[str]:
        """Files that were fetched, and are not what is in the remote by now: they leave, unless somebody has them open.

        Returns those of which nothing is there.
        """
        gone: set[str] = set()
        files = self._context.catalog.files
        for row in await files.plain(self._volume.name):
            stat = found.get(row.path)
            if row.path in self._volume.fetching or (stat is None and self._cut):
                continue
            if row.local() is not None:
                if stat is not None and _is(row, stat):
                    continue
                try:
                    await self._moving.drop_local(row)
                except CkptdError:
                    continue
            await files.delete_content(row.id, row.generation, closed=True)
            if stat is None:
                gone.add(row.path)
        return gone

    async def _publish(self, found: Mapping[str, ObjectStat], gone: set[str]) -> None:
        catalog, name = self._context.catalog, self._volume.name
        root = os.stat(self._volume.root)  # objects have no owner
        stubs = await asyncio.to_thread(_stubs, found, root.st_uid, root.st_gid)
        here = await catalog.files.at_paths(name, list(found))
        after, leaving = "", set(self._context.deleting)
        while left := await catalog.manifests.leftovers(name, after=after):
            leaving.update(left)
            after = left[-1]
        hidden = await catalog.hidden.all(name)
        self._volume.plain = {
            path: stat
            for path, stat in found.items()
            if path not in here and stat.key not in leaving and not _hides(hidden.get(path), stat)
        }
        self.shown = {path: stub for path, stub in stubs.items() if path in self._volume.plain}
        self.gone |= gone
        self.in_sight.clear()
        stale = [path for path, etag in hidden.items() if path not in found or not _hides(etag, found[path])]
        if not self._cut:
            await catalog.hidden.forget(name, stale)


def _stubs(found: Mapping[str, ObjectStat], uid: int, gid: int) -> dict[str, Stub]:
    return {path: Stub(_MODE, uid, gid, stat.size, int(stat.modified * 1e9)) for path, stat in found.items()}


def _path(key: str) -> str | None:
    """None for a key that is no file's: a name that cannot be, or one that we would spell in another way."""
    try:
        check_key(key)
    except ValueError:
        return None
    path = path_of(key)
    return path if key_of(path) == key else None


def _is(row: FileRow, stat: ObjectStat) -> bool:
    remote = row.copy(Place.REMOTE)
    return remote is not None and stat.size == row.size and stat.etag in ("", remote.etag)


def _hides(etag: str | None, stat: ObjectStat) -> bool:
    return etag is not None and (not stat.etag or stat.etag == etag)
