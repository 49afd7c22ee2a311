"""What a fetch does about bytes that did not come as they should: it has them looked into, then goes on or gives up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckptd.catalog import FileRow
from ckptd.domain.errors import CkptdError, IntegrityError
from ckptd.domain.model import Place
from ckptd.domain.names import CheckpointId
from ckptd.engine.context import Context
from ckptd.engine.mending import Mending, Suspect
from ckptd.engine.replacing import Replacing
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume
from ckptd.manifest import ManifestEntry

if TYPE_CHECKING:
    from ckptd.engine.prefetching import Choosing

Member = FileRow | ManifestEntry


class Doubting:
    def __init__(self, context: Context, choosing: Choosing, replacing: Replacing, mending: Mending) -> None:
        self._context = context
        self._choosing = choosing
        self._replacing = replacing
        self._mending = mending

    async def settle(self, volume: Volume, unit: Unit, doubts: Sequence[tuple[Member, CkptdError]]) -> None:
        """Returns when another try makes sense: a bad copy here was replaced, or all was well at the second look.

        Raises IntegrityError when the checkpoint cannot be had, naming what is bad and the next best; RemoteError.
        """
        bad: list[str] = []
        suspects: list[Suspect] = []
        for member, error in doubts:
            local = member.local() if isinstance(member, FileRow) else None
            if isinstance(member, FileRow) and local is not None:
                outcome = await self._replacing.replace(volume, member, local.place)
                now = await self._context.catalog.files.get(member.id)
                if outcome.bad and (now is None or now.local() is None or now.defect is not None):
                    bad.append(f"{member.path} in {local.place}: {outcome.done}")
            elif (suspect := _suspect(member, error)) is not None:
                suspects.append(suspect)
        if suspects:
            bad += [one.told for one in await self._mending.condemn(volume, unit.run, unit.step, suspects)]
        if bad:
            raise IntegrityError(
                f"{CheckpointId(unit.run, unit.step)} cannot be had: " + "; ".join(bad),
                hint=await self._next_best(unit),
            )

    async def _next_best(self, unit: Unit) -> str:
        volume = self._context.volumes[unit.volume]
        try:
            found = await self._choosing.restorable(volume, CheckpointId(unit.run))
        except CkptdError:
            return f"no other checkpoint of {unit.run} is whole (ckptctl ls '{unit.run}')"
        return f"the next best is {found.run}@{found.step}: ckptctl prefetch '{found.run}@{found.step}'"


def _suspect(member: Member, error: CkptdError) -> Suspect | None:
    remote = member.copy(Place.REMOTE) if isinstance(member, FileRow) else None
    key = member.key if isinstance(member, ManifestEntry) else None if remote is None else remote.location
    return None if key is None or member.checksums is None else Suspect(key, member.checksums, error.message)
