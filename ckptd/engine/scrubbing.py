"""The scrub: reads copies that nobody reads, once in a while, and has put right what is not what it was.

It comes after everything else: it waits while files are sent, fetched or saved (for a minute at most, lest it never come to
its turn), keeps to the bandwidth of `[scrub]`, and reads disks in the idle class. When which copy was last good is in the
catalog, so a restart goes on where it was. A node reads its own tiers, and the objects that its own manifests describe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import structlog

from ckptd.domain.errors import CkptdError, IntegrityError, NotKnown, RemoteError
from ckptd.domain.model import CheckpointState, Place
from ckptd.domain.names import CheckpointId, key_of
from ckptd.engine.context import Context
from ckptd.engine.idleness import Idleness
from ckptd.engine.mending import Mending
from ckptd.engine.operations import Progress
from ckptd.engine.prefetching import Choosing
from ckptd.engine.reconciler import Reconciler
from ckptd.engine.replacing import Replacing
from ckptd.engine.rereading import Rereading
from ckptd.engine.unit import Unit
from ckptd.policy.scrub import Item, ScrubPolicy, Spot, due

log = structlog.get_logger()

_LOOK_S = 10.0
"""Between two looks whether something in quarantine can be gone on with."""
_SHORTEST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 3600.0
"""Between two looks for what is due: each goes through everything that is known."""
_DAY_S = 86400.0
_MEND_AGAIN_S = 600.0


class Scrubbing:
    def __init__(
        self,
        context: Context,
        reconciler: Reconciler,
        idleness: Idleness,
        choosing: Choosing,
        replacing: Replacing,
        mending: Mending,
        policy: ScrubPolicy,
    ) -> None:
        self._context = context
        self._reconciler = reconciler
        self._choosing = choosing
        self._mending = mending
        self._rereading = Rereading(context, idleness, replacing, mending, policy)
        self._policy = policy
        self._tried: dict[tuple[str, str, int], tuple[tuple[str, ...], float]] = {}
        """Checkpoints in quarantine that could not be mended: what their bad objects looked like, and when that was."""
        context.scrub = replace(context.scrub, every_s=policy.every_s)

    async def run(self) -> None:
        """For as long as the daemon serves."""
        every, round_at = self._policy.every_s, 0.0
        while True:
            try:
                for unit in self._reconciler.view.units:
                    if unit.committed is not None and unit.committed.quarantined:
                        await self._go_on_mending(unit)
                if every and self._context.clock() >= round_at:
                    following = await self._round()
                    # What came here meanwhile may be due sooner than what was here.
                    round_at = min(following, self._context.clock() + min(_LONGEST_PAUSE_S, every / 4))
            except (CkptdError, OSError) as error:
                log.warning("scrub.interrupted", error=str(error))
            finally:
                self._rereading.tell(active=False)
            await asyncio.sleep(min(_LOOK_S, max(_SHORTEST_PAUSE_S, every / 8)) if every else _LOOK_S)

    async def _round(self) -> float:
        """Reads what is due; returns when the next is."""
        context, every = self._context, self._policy.every_s
        checks, units, now = await context.catalog.checks.all(), self._reconciler.view.units, context.clock()
        # In a thread: there may be a hundred thousand of them, and others use the loop.
        portions, following = await asyncio.to_thread(lambda: due(self._items(units, own=True), checks, every, now))
        self._rereading.tell(
            active=bool(portions),
            due_files=sum(len(one.items) for one in portions),
            due_bytes=sum(one.size for one in portions),
        )
        unreachable: set[str] = set()
        for portion in portions:
            if portion.place is Place.REMOTE and portion.volume in unreachable | context.unmet.keys():
                continue
            try:
                await self._rereading.portion(portion, None)
            except RemoteError as error:
                unreachable.add(portion.volume)
                log.info("scrub.remote_away", volume=portion.volume, error=error.message)
        await context.catalog.checks.forget_before(context.clock() - 10 * every - _DAY_S)
        return now + every if following is None else following

    async def scrub(self, progress: Progress) -> None:
        """The operation: what is named, now, whatever was read lately. Raises NotKnown, IntegrityError, RemoteError."""
        operation = progress.operation
        far = "remote" in operation.arguments
        units = await self._named(operation.volume, operation.target, must=far)
        for unit in units:
            await self._go_on_mending(unit, asked=True)
        units = await self._named(operation.volume, operation.target, must=False)
        items = [item for item in self._items(units) if far or item.spot.place is not Place.REMOTE]
        portions, _ = due(items, {}, 0.0, self._context.clock())
        progress.total = sum(one.size for one in portions)
        bad = [text for portion in portions for text in await self._rereading.portion(portion, progress)]
        still = [unit for unit in units if unit.committed is not None and unit.committed.quarantined]
        bad += [f"{unit.run}@{unit.step}: {unit.reason}" for unit in still if unit.state is CheckpointState.TORN]
        if bad:
            raise IntegrityError(f"{len(bad)} bad: " + "; ".join(bad), hint="see: ckptctl events")
        files = sum(len(one.items) for one in portions)
        progress.result = f"{operation.target or operation.volume or 'everything'}: {files} copies, all good"

    async def _named(self, volume: str, target: str, *, must: bool) -> list[Unit]:
        if not target:
            view = await self._reconciler.look()
            return [unit for unit in view.units if volume in ("", unit.volume)]
        named = CheckpointId.parse(target)
        await self._choosing.fresh(self._context.volume(volume), named.run, must=must)
        found = [u for u in self._reconciler.view.run(volume, named.run) if named.step in (None, u.step)]
        if not found:
            raise NotKnown(f"there is no {target} in volume {volume}", hint="see: ckptctl ls")
        return found

    def _items(self, units: Iterable[Unit], *, own: bool = False) -> Iterable[Item]:
        """Copies whose content is known. `own`: in remotes, only what this node's manifests describe."""
        for unit in units:
            committed = unit.committed
            ours = not own or committed is None or self._context.node in committed.by_node
            for row in unit.rows:
                if row.link is not None or row.checksums is None or not row.closed or row.plain:
                    continue
                for place in row.places:
                    if place is not Place.REMOTE or ours:
                        spot = Spot(unit.volume, place, row.path)
                        yield Item(spot, unit.run, unit.step, row.size, row.checksums.whole, row.changed_at)
            if committed is None or committed.quarantined or not ours:
                continue
            for path, entry in unit.cold.items():
                if entry.checksums is not None:
                    spot = Spot(unit.volume, Place.REMOTE, path)
                    since = committed.committed_at
                    yield Item(spot, unit.run, unit.step, entry.size, entry.checksums.whole, since)

    async def _go_on_mending(self, unit: Unit, *, asked: bool = False) -> None:
        """When it was killed half way, or somebody put a good object back, or this node has got a good copy since."""
        committed, context = unit.committed, self._context
        if committed is None or not committed.quarantined or unit.step is None or unit.volume in context.unmet:
            return
        volume, its = context.volumes[unit.volume], (unit.volume, unit.run, unit.step)
        now = context.clock()
        tried = self._tried.get(its)
        if not asked and tried is not None and now - tried[1] < _MEND_AGAIN_S:
            return
        try:
            looks = await self._looks(unit)
            if not asked and tried is not None and tried[0] == looks:
                self._tried[its] = (looks, now)  # reading it all once more would tell the same
            elif await self._mending.mend(volume, unit.run, unit.step):
                self._tried.pop(its, None)
            else:
                self._tried[its] = (looks, now)
        except RemoteError as error:
            if asked:
                raise
            self._tried[its] = ((), now)
            log.info("scrub.not_mended", checkpoint=f"{unit.run}@{unit.step}", error=error.message)

    async def _looks(self, unit: Unit) -> tuple[str, ...]:
        volume, notes = self._context.volumes[unit.volume], unit.committed.quarantined if unit.committed else {}
        here = {key_of(row.path) for row in unit.rows if row.local() is not None}
        found = []
        for key in sorted({key for note in notes.values() for key in note.keys}):
            stat = await self._context.transfers.head(volume.remote, key)
            found.append(f"{key} {'-' if stat is None else stat.etag} {key in here}")
        return tuple(found)
