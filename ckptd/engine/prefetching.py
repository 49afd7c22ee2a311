"""Makes a checkpoint hot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatchcase

from ckptd.catalog import PinRow
from ckptd.domain.errors import CkptdError, IntegrityError, NoRoom, NotKnown, RemoteError
from ckptd.domain.history import Resume
from ckptd.domain.model import CheckpointState, Place
from ckptd.domain.names import CheckpointId, path_of
from ckptd.engine.adopting import make_directories
from ckptd.engine.context import Context
from ckptd.engine.doubting import Doubting, Member
from ckptd.engine.following import bring_pointers
from ckptd.engine.hydrating import Hydrating, OnPart
from ckptd.engine.mending import absent
from ckptd.engine.moving import Moving
from ckptd.engine.operations import Progress
from ckptd.engine.reconciler import Reconciler
from ckptd.engine.resumes import Resumes, members_of, slowest
from ckptd.engine.retention import Retention
from ckptd.engine.snapshot import used_bytes
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume
from ckptd.layouts import locate
from ckptd.manifest import ManifestEntry
from ckptd.transfer.side_by_side import side_by_side

DEFAULT_TTL_S = 4 * 3600.0
"""How long a prefetched checkpoint stays hot at least: the job it was fetched for may still be queued."""
_FILES_AT_A_TIME = 16
_ROOM_WAIT_S = 10.0
_TRIES = 3
"""Where bytes did not come as they should, and then all was well after all."""


def _nobody(_: int) -> None:
    """Follows the progress."""


class Choosing:
    """Which checkpoint a name means."""

    def __init__(self, context: Context, reconciler: Reconciler) -> None:
        self._context = context
        self._reconciler = reconciler

    async def fresh(self, volume: Volume, run: str, *, must: bool, shown: bool = False) -> None:
        """Looks into the remote for what other nodes committed. Unreachable: what is known here decides (unless `must`).

        `shown`: what is seen is only shown, nothing is decided by it.
        """
        try:
            async with asyncio.timeout(None if must else 5.0):
                await self._context.known.refresh(volume, run)
        except (RemoteError, TimeoutError):
            if must:
                raise
        await (self._reconciler.recent() if shown else self._reconciler.look())

    async def restorable(self, volume: Volume, target: CheckpointId, *, must: bool = False) -> Unit:
        """Raises NotKnown, and IntegrityError for a step that is there but is not whole."""
        await self.fresh(volume, target.run, must=must)
        units = [unit for unit in self._reconciler.view.run(volume.name, target.run) if unit.step is not None]
        if target.step is not None:
            units = [unit for unit in units if unit.step == target.step]
            if units and not units[0].restorable:
                raise IntegrityError(
                    f"{target} is {units[0].state}: {units[0].reason or 'it is not whole'}",
                    hint=f"ckptctl latest {target.run} names the newest that is whole",
                )
        whole = [unit for unit in units if unit.restorable]
        if not whole:
            raise NotKnown(self._nothing(volume, target), hint="see: ckptctl ls")
        return whole[-1]

    def _nothing(self, volume: Volume, target: CheckpointId) -> str:
        units = self._reconciler.view.run(volume.name, target.run)
        if not units:
            return f"there is no run '{target.run}' in volume {volume.name}"
        if target.step is not None:
            return f"there is no checkpoint {target}"
        torn = [str(unit.step) for unit in units if unit.state is CheckpointState.TORN]
        return f"run '{target.run}' has no restorable checkpoint" + (f" (torn: {', '.join(torn)})" if torn else "")


class Prefetching:
    def __init__(
        self,
        context: Context,
        choosing: Choosing,
        reconciler: Reconciler,
        hydrating: Hydrating,
        doubting: Doubting,
        moving: Moving,
        retention: Retention,
        resumes: Resumes,
    ) -> None:
        self._context = context
        self._choosing = choosing
        self._reconciler = reconciler
        self._hydrating = hydrating
        self._doubting = doubting
        self._moving = moving
        self._retention = retention
        self._resumes = resumes

    async def prefetch(self, progress: Progress) -> None:
        """Raises NotKnown, IntegrityError, NoRoom, RemoteError."""
        operation, arguments = progress.operation, progress.operation.arguments
        volume = self._context.volume(operation.volume)
        unit = await self._choosing.restorable(volume, CheckpointId.parse(operation.target))
        to = Place(arguments.get("to", Place.RAM))
        pattern = arguments.get("match")
        members = [
            m
            for m in members_of(unit)
            if pattern is None or fnmatchcase(m.path.rpartition("/")[2], pattern) or fnmatchcase(m.path, pattern)
        ]
        if pattern is not None and not members:
            there = ", ".join(m.path.rpartition("/")[2] for m in members_of(unit)[:3])
            name = CheckpointId(unit.run, unit.step)
            raise NotKnown(f"no file of {name} matches '{pattern}'", hint=f"it has files such as {there}")
        tier = slowest(members)
        self._resumes.looked_up(volume.name, "prefetch", tier)
        progress.total = sum(m.size for m in members)
        missing = [m for m in members if not self._is_hot(m, to)]
        progress.before = progress.total - sum(m.size for m in missing)
        progress.add(progress.before)
        async with self._wanted(volume, unit, to, float(arguments.get("ttl", DEFAULT_TTL_S)), operation.uid):
            if missing:
                make_directories(volume, unit)
                await self._fetch_good(volume, unit, missing, to, progress)
        await bring_pointers(self._context, volume, unit)
        progress.result = volume.visible(path_of(unit.root) if unit.root else unit.run)
        self._context.wake()
        if unit.step is not None:
            now, fetched = self._context.clock(), progress.total - progress.before
            resume = Resume(
                volume.name, unit.run, unit.step, operation.started_at, now, progress.total, fetched, tier, "prefetch"
            )
            await self._resumes.prefetched(resume)

    @contextlib.asynccontextmanager
    async def _wanted(self, volume: Volume, unit: Unit, to: Place, ttl: float, uid: int | None) -> AsyncIterator[None]:
        """Keeps it for `ttl` seconds, unless the block fails or is cancelled: then the planner must not go on with it."""
        if unit.step is None:
            yield
            return
        wishes = self._context.catalog.wishes
        its = (volume.name, unit.run, unit.step)
        before = [pin for pin in await wishes.pins() if (pin.volume, pin.run, pin.step) == its]
        await wishes.pin(PinRow(*its, to, self._context.clock() + ttl, uid))
        try:
            yield
        except BaseException:
            await wishes.unpin(*its)
            for pin in before:
                await wishes.pin(pin)
            raise

    @staticmethod
    def _is_hot(member: Member, to: Place) -> bool:
        if isinstance(member, ManifestEntry):
            return False
        local = member.local()
        return member.link is not None or (local is not None and (local.place is to or to is Place.NVME))

    async def _fetch_good(
        self, volume: Volume, unit: Unit, missing: Sequence[Member], to: Place, progress: Progress
    ) -> None:
        """Bytes that do not come as they should are looked into; what cannot be had whole leaves nothing in the volume."""
        try:
            for _ in range(_TRIES):
                if not (doubts := await self._fetch(volume, missing, to, progress)):
                    return
                await self._doubting.settle(volume, unit, doubts)
            raise doubts[0][1]
        except IntegrityError:
            await self._take_back(volume, missing)
            raise

    async def _take_back(self, volume: Volume, missing: Sequence[Member]) -> None:
        """A job that looks for directories would take a half of a checkpoint for one."""
        cold = [member.path for member in missing if isinstance(member, ManifestEntry) or member.local() is None]
        found = await self._context.catalog.files.at_paths(volume.name, cold)
        for row in found.values():
            if row.local() is not None and row.durable and row.link is None:
                with contextlib.suppress(CkptdError):  # somebody reads it already, or writes it anew
                    await self._moving.drop_local(row)
        self._retention.remove_empty_directories(list(found.values()))

    async def _fetch(
        self, volume: Volume, missing: Sequence[Member], to: Place, progress: Progress | None, *more: OnPart
    ) -> list[tuple[Member, CkptdError]]:
        """Returns those whose bytes are gone or not what they should be."""
        place = await self.room(volume, to, sum(m.size for m in missing))
        doubts: list[tuple[Member, CkptdError]] = []
        arrived = _nobody if progress is None else progress.add

        async def one(member: Member) -> None:
            try:
                if isinstance(member, ManifestEntry):
                    await self._hydrating.entry(volume, member, place, arrived, *more)
                else:
                    await self._hydrating.file(member, place, arrived, *more)
            except CkptdError as error:
                if not absent(error):
                    raise
                doubts.append((member, error))

        await side_by_side(missing, one, _FILES_AT_A_TIME)
        return doubts

    async def bring(self, volume: Volume, member: Member, on_part: OnPart) -> None:
        """One file that is asked for now. Raises as `prefetch` does."""
        for _ in range(_TRIES):
            if not (doubts := await self._fetch(volume, [member], Place.RAM, None, on_part)):
                return
            where = locate(member.path)
            unit = self._reconciler.view.unit(volume.name, where.run, where.step)
            if unit is None:
                break
            await self._doubting.settle(volume, unit, doubts)
        raise doubts[0][1]

    async def room(self, volume: Volume, to: Place, size: int) -> Place:
        """The tier to fetch into: `to` if room can be made there, else the next one."""
        places = [place for place in (to, Place.NVME) if place in self._context.tiers]
        if volume.home is Place.NVME or volume.objects is None:
            places = [volume.home]
        for place in dict.fromkeys(places):
            if await self._made_room(place, size):
                return place
        budgets = ", ".join(f"{place} {self._context.tiers[place].budget} bytes" for place in dict.fromkeys(places))
        raise NoRoom(
            f"no tier has room for {size} bytes ({budgets})",
            hint="raise a tier's budget, or unpin or evict other checkpoints (ckptctl status shows what is there)",
        )

    async def _made_room(self, place: Place, size: int) -> bool:
        """Asks the planner to make room, and waits for it as long as that may help."""
        context = self._context
        tier = context.tiers[place]
        if size > tier.effective:
            return False
        context.wanted[place] = context.wanted.get(place, 0) + size
        try:
            async with asyncio.timeout(_ROOM_WAIT_S):
                while used_bytes(context, (await self._reconciler.look()).units, place) + size > tier.effective:
                    context.wake()
                    async with context.changed:
                        await context.changed.wait()
        except TimeoutError:
            return False
        finally:
            context.wanted[place] -= size
        return True
