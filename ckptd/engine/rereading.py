"""Reading copies at rest against their checksums, slowly and after everybody else; what is bad is put right.

The scrub (`scrubbing`) says which.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

from ckptd.catalog import FileRow
from ckptd.domain.errors import CkptdError, IntegrityError, SourceChanged
from ckptd.domain.model import Checksums, Place
from ckptd.domain.names import key_of
from ckptd.engine.context import Context
from ckptd.engine.idleness import Idleness
from ckptd.engine.mending import Mending, Suspect, absent
from ckptd.engine.operations import Progress
from ckptd.engine.replacing import Replacing
from ckptd.policy.scrub import Check, Item, Portion, ScrubPolicy, Spot
from ckptd.transfer.side_by_side import side_by_side
from ckptd.transfer.split import parts_of, stretches
from ckptd.transfer.transfers import ObjectStat

_PATIENCE_S = 60.0
"""So long it waits for others, then it reads one piece all the same: a busy node must not keep it from ever coming round."""
_HEADS_AT_A_TIME = 4
_SAVED_TOGETHER = 256
"""Checks recorded in one transaction: a kill costs as many to be done again."""


class Rereading:
    def __init__(
        self, context: Context, idleness: Idleness, replacing: Replacing, mending: Mending, policy: ScrubPolicy
    ) -> None:
        self._context = context
        self._idleness = idleness
        self._replacing = replacing
        self._mending = mending
        self._policy = policy
        self._free_at = {False: 0.0, True: 0.0}
        """When what was read so far has been paid for, by the monotonic clock: from tiers, from remotes."""
        self._checked: list[tuple[Spot, Check]] = []

    async def portion(self, portion: Portion, progress: Progress | None) -> list[str]:
        """What was bad, and what was done about it."""
        if portion.place is Place.REMOTE:
            bad = await self._objects(portion, progress)
        else:
            bad = [text for item in portion.items if (text := await self._copy(item, progress)) is not None]
        await self._save_checks()
        return bad

    # Copies in tiers.

    async def _copy(self, item: Item, progress: Progress | None) -> str | None:
        context, volume = self._context, self._context.volumes[item.spot.volume]
        row = await context.catalog.files.at(volume.name, item.spot.path)
        copy = None if row is None else row.copy(item.spot.place)
        if row is None or copy is None or row.checksums is None or row.checksums.whole != item.crc:
            return None  # other content by now, or gone
        try:
            for first, crcs in stretches(row.checksums):
                await self._turn(len(crcs) * row.checksums.part_size, far=False)
                await context.transfers.check_local_stretch(
                    copy.location, row.stamp(copy), row.checksums.part_size, first, crcs
                )
                if progress is not None:
                    progress.add(min(len(crcs) * row.checksums.part_size, row.size))
        except SourceChanged:
            return None
        except IntegrityError:
            outcome = await self._replacing.replace(volume, row, item.spot.place)
            if not outcome.bad:
                return None
            self.tell(bad=context.scrub.bad + 1)
            return f"{key_of(row.path)} in {item.spot.place}: {outcome.done}"
        await self._good(item)
        return None

    # Objects in remotes.

    async def _objects(self, portion: Portion, progress: Progress | None) -> list[str]:
        """First asks after all of them, so that what is missing of a checkpoint is found together; then reads."""
        volume = self._context.volumes[portion.volume]
        expected = await self._expected(portion)
        wrong: list[Suspect] = []
        proven: set[str] = set()

        async def ask(item: Item) -> None:
            key, (sums, etag) = key_of(item.spot.path), expected[item.spot.path]
            await self._turn(0, far=True)
            found = await self._context.transfers.head(volume.remote, key)
            if (why := _differs(found, sums)) is not None:
                wrong.append(Suspect(key, sums, why))
            elif found is not None and (
                found.crc64nvme == sums.whole or (found.crc64nvme is None and found.etag == etag)
            ):
                proven.add(key)

        items = [item for item in portion.items if item.spot.path in expected]
        await side_by_side(items, ask, _HEADS_AT_A_TIME)
        suspected = {suspect.key for suspect in wrong}
        for item in items:
            key, (sums, _) = key_of(item.spot.path), expected[item.spot.path]
            if key in suspected:
                continue
            if (self._policy.remote_bandwidth or key not in proven) and not await self._read(volume.name, key, sums):
                wrong.append(Suspect(key, sums, "it has other bytes"))
                continue
            await self._good(item)
            if progress is not None:
                progress.add(item.size)
        if not wrong:
            return []
        bad = await self._mending.condemn(volume, portion.run, portion.step, wrong)
        self.tell(bad=self._context.scrub.bad + len(bad))
        return [one.told for one in bad]

    async def _expected(self, portion: Portion) -> dict[str, tuple[Checksums, str]]:
        """What the objects are to be by now, with the version that was confirmed, by path."""
        context, step = self._context, portion.step
        committed = None if step is None else context.known.of(portion.volume, portion.run, step)
        entries = {} if committed is None else committed.entries()
        rows = await context.catalog.files.at_paths(portion.volume, [item.spot.path for item in portion.items])
        found: dict[str, tuple[Checksums, str]] = {}
        for item in portion.items:
            row, entry = rows.get(item.spot.path), entries.get(item.spot.path)
            if row is not None and (version := _version(row)) is not None:
                found[item.spot.path] = version
            elif row is None and entry is not None and entry.checksums is not None:
                found[item.spot.path] = (entry.checksums, entry.etag)
        wanted = {item.spot.path: item.crc for item in portion.items}
        return {path: (sums, etag) for path, (sums, etag) in found.items() if sums.whole == wanted[path]}

    async def _read(self, volume: str, key: str, sums: Checksums) -> bool:
        remote = self._context.volumes[volume].remote
        try:
            for part in parts_of(sums.size, sums.part_size):
                await self._turn(part.length, far=True)
                await self._context.transfers.check_remote_part(remote, key, sums, part)
        except CkptdError as error:
            if not absent(error):
                raise
            return False
        return True

    # Pace, and what is remembered.

    async def _turn(self, size: int, *, far: bool) -> None:
        """Returns when `size` bytes may be read: nobody else works, and what was read before has been paid for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while self._idleness.busy():
                    async with self._context.changed:
                        await self._context.changed.wait()
        rate = self._policy.remote_bandwidth if far else self._policy.bandwidth
        if rate and size:
            now = time.monotonic()
            wait = self._free_at[far] - now
            self._free_at[far] = max(self._free_at[far], now) + size / rate
            if wait > 0:
                await asyncio.sleep(wait)

    async def _good(self, item: Item) -> None:
        scrub = self._context.scrub
        self.tell(
            checked_files=scrub.checked_files + 1, checked_bytes=scrub.checked_bytes + item.size,
            due_files=max(0, scrub.due_files - 1), due_bytes=max(0, scrub.due_bytes - item.size),
        )  # fmt: skip
        self._checked.append((item.spot, Check(item.crc, self._context.clock())))
        if len(self._checked) >= _SAVED_TOGETHER:
            await self._save_checks()

    async def _save_checks(self) -> None:
        checked, self._checked = self._checked, []
        await self._context.catalog.checks.put(checked)

    def tell(self, **changed: Any) -> None:
        self._context.scrub = replace(self._context.scrub, **changed)


def _differs(found: ObjectStat | None, sums: Checksums) -> str | None:
    """What a store's own words prove to be wrong."""
    if found is None:
        return "the object is gone"
    if found.size != sums.size:
        return f"the object has {found.size} bytes instead of {sums.size}"
    if found.crc64nvme is not None and found.crc64nvme != sums.whole:
        return "the store's own checksum is another"
    return None


def _version(row: FileRow) -> tuple[Checksums, str] | None:
    copy = row.copy(Place.REMOTE)
    return None if copy is None or row.checksums is None else (row.checksums, copy.etag)
