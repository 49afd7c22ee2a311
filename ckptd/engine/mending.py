"""What is done about objects in the remote that are gone or have other bytes than their manifest says.

A good copy from here takes their place. Until then no node offers the checkpoint: its manifest is put aside before
(`ckptd.manifest.quarantine`) and put back after. Nothing that might be good is destroyed, and every step may be the last
before a kill: the scrub's next round (or the planner, where the checkpoint is this node's) goes on from what it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from ckptd.catalog import FileRow
from ckptd.domain.errors import CkptdError, IntegrityError, RemoteError, SourceChanged
from ckptd.domain.model import Checksums, Place
from ckptd.domain.names import CheckpointId, key_of, path_of
from ckptd.engine.context import Context
from ckptd.engine.known import Committed, UnitKey
from ckptd.engine.matching import matches
from ckptd.engine.uploading import Uploading
from ckptd.engine.volume import Volume
from ckptd.manifest import Manifest, ManifestEntry
from ckptd.manifest.format import FORMAT_KEY
from ckptd.manifest.quarantine import Note

NO_MATCH = "do not match their checksum"
"""In the defect of a file whose bytes went bad here."""
_CONFIRM_AFTER_S = 1.0
"""Between the two looks that condemn an object."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """An object that did not look as it should."""

    key: str
    sums: Checksums
    """What it should be."""
    why: str = ""
    good_here: bool = False
    """A tier of this node has the right bytes."""

    @property
    def told(self) -> str:
        then = "sent again from the good copy here" if self.good_here else "no good copy is here"
        return f"{self.key} in the remote: {self.why}; {then}"


def absent(error: CkptdError) -> bool:
    """Whether a store's refusal means that the object is not (any more) what a manifest says, and not that it is away."""
    return isinstance(error, IntegrityError) or (isinstance(error, RemoteError) and error.backend_code == "not-found")


async def keep_bad(context: Context, volume: Volume, row: FileRow, place: Place) -> None:
    """No good copy is left: what is here stays, for whoever can make use of it, and its checkpoint is torn."""
    told = f"{key_of(row.path)}: its bytes in {place} {NO_MATCH}, and there is no good copy"
    if row.defect != told:
        await context.catalog.files.set_defect(row.id, row.generation, told)
        await context.event("error", "copy.bad", told, volume=volume.name, path=row.path)
        context.wake()


async def good_here(context: Context, volume: Volume, row: FileRow) -> bool:
    """Reads the copy here: one that is as bad as the remote's must not be sent as if it were the content."""
    copy = row.local()
    if copy is None or row.checksums is None:
        return False
    try:
        await context.transfers.verify_local(copy.location, row.stamp(copy), row.checksums)
    except SourceChanged:
        return False
    except IntegrityError:
        await keep_bad(context, volume, row, copy.place)
        return False
    return True


class Mending:
    def __init__(self, context: Context, uploading: Uploading) -> None:
        self._context = context
        self._uploading = uploading

    async def condemn(self, volume: Volume, run: str, step: int | None, suspects: Sequence[Suspect]) -> list[Suspect]:
        """Objects of one checkpoint (or of a run's loose files) did not match, or are gone. Looked at once more before
        anything is done. Returns those that are bad, and what was done about them. Raises RemoteError.
        """
        context = self._context
        await asyncio.sleep(_CONFIRM_AFTER_S)
        await context.transfers.require(volume.remote, FORMAT_KEY)  # where it is another remote, nothing is in it
        async with self._alone(volume, run, step):
            if step is not None:
                await context.known.refresh(volume, run, step)
            looked = [await self._condemned(volume, run, step, suspect) for suspect in suspects]
            bad = [found for found in looked if found is not None]
            if not bad:
                return []
            if step is not None and context.known.of(volume.name, run, step) is not None:
                await self._put_aside(volume, (volume.name, run, step), bad)
                await self._mend(volume, (volume.name, run, step))
            context.wake()
            return bad

    @contextlib.asynccontextmanager
    async def _alone(self, volume: Volume, run: str, step: int | None) -> AsyncIterator[None]:
        """The planner keeps its hands off the checkpoint meanwhile."""
        units, its, task = self._context.busy_units, (volume.name, run, step), asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can repair")
        while (running := units.get(its)) is not None and running is not task:
            await asyncio.wait([running])
            await asyncio.sleep(0)  # its callback gives the checkpoint free
        units[its] = task
        try:
            yield
        finally:
            if units.get(its) is task:
                del units[its]
            self._context.wake()

    async def _condemned(self, volume: Volume, run: str, step: int | None, suspect: Suspect) -> Suspect | None:
        """None where it is what it should be after all, or is not described by anything any more."""
        context = self._context
        row = await self._row(volume, suspect)
        committed = None if step is None else context.known.of(volume.name, run, step)
        entry = None if committed is None else committed.entries().get(path_of(suspect.key))
        described = entry is not None and entry.checksums is not None and entry.checksums.whole == suspect.sums.whole
        if not described and (row is None or row.copy(Place.REMOTE) is None):
            return None
        why = await self._wrong(volume, suspect)
        if why is None:
            return None
        await context.event("error", "remote.bad", why, volume=volume.name, key=suspect.key)
        good = row is not None and await good_here(self._context, volume, row)
        if row is not None and not described:
            await context.catalog.files.drop_copy(row.id, Place.REMOTE)
        return replace(suspect, why=why, good_here=good)

    async def _wrong(self, volume: Volume, suspect: Suspect) -> str | None:
        try:
            await self._context.transfers.verify_remote(volume.remote, suspect.key, suspect.sums)
        except CkptdError as error:
            if not absent(error):
                raise
            return error.message
        return None

    async def _row(self, volume: Volume, suspect: Suspect) -> FileRow | None:
        row = await self._context.catalog.files.at(volume.name, path_of(suspect.key))
        same = row is not None and row.checksums is not None and row.checksums.whole == suspect.sums.whole
        return row if same else None

    async def _put_aside(self, volume: Volume, its: UnitKey, bad: Sequence[Suspect]) -> None:
        context = self._context
        committed = context.known.of(*its)
        if committed is None:
            return
        found = {suspect.key for suspect in bad}
        for node, manifest in committed.by_node.items():
            mine = found & {entry.key for entry in manifest.entries}
            before = committed.quarantined.get(node)
            keys = tuple(sorted(mine | set(before.keys if before else ())))
            if not mine or (before is not None and before.keys == keys):
                continue
            note = Note(context.node, context.clock(), _reason(keys), keys)
            version, text = await volume.manifests.put_aside(manifest, manifest.to_json(), note)
            await context.known.put(volume.name, manifest, version, text)
        name, reason = str(CheckpointId(its[1], its[2])), _reason(tuple(sorted(found)))
        then = "sent again from here" if all(one.good_here for one in bad) else "no good copy of all of it is here"
        await context.event(
            "error", "checkpoint.quarantined", f"{name} is not offered to others any more: {reason}; {then}",
            volume=volume.name, run=its[1], step=its[2],
        )  # fmt: skip

    async def mend(self, volume: Volume, run: str, step: int) -> bool:
        """Goes on with a checkpoint in quarantine: sends what is bad from good copies here; with all of it good, puts the
        manifests back. False: something is still bad. Raises RemoteError.
        """
        async with self._alone(volume, run, step):
            return await self._mend(volume, (volume.name, run, step))

    async def _mend(self, volume: Volume, its: UnitKey) -> bool:
        context = self._context
        committed = context.known.of(*its)
        if committed is None or not committed.quarantined:
            return True
        context.require_met(volume.name)
        bad = {key for note in committed.quarantined.values() for key in note.keys}
        left = [key for key in sorted(bad) if not await self._made_good(volume, committed, key)]
        if left or context.known.of(*its) is not committed:
            return False
        await self._put_back(volume, its, committed)
        return True

    async def _made_good(self, volume: Volume, committed: Committed, key: str) -> bool:
        """Whether the object is what the manifest says, perhaps because it was sent from here just now."""
        entry = committed.entries().get(path_of(key))
        if entry is None or entry.checksums is None:
            return False
        suspect = Suspect(key, entry.checksums)
        row = await self._row(volume, suspect)
        if row is not None and matches(row, entry) and not row.durable and await good_here(self._context, volume, row):
            async with self._context.claimed([row.id]):
                await self._uploading.upload(row.id, row.generation)
            row = await self._context.catalog.files.get(row.id)
            return row is not None and row.durable
        return await self._wrong(volume, suspect) is None

    async def _put_back(self, volume: Volume, its: UnitKey, committed: Committed) -> None:
        context = self._context
        for node, note in committed.quarantined.items():
            manifest = await self._with_versions(volume, committed.by_node[node], note)
            version, text = await volume.manifests.put_back(manifest)
            await context.known.put(volume.name, manifest, version, text)
        await context.event(
            "info", "checkpoint.mended", f"{CheckpointId(its[1], its[2])} is good again in the remote, and offered",
            volume=volume.name, run=its[1], step=its[2],
        )  # fmt: skip

    async def _with_versions(self, volume: Volume, manifest: Manifest, note: Note) -> Manifest:
        """With the versions that its objects have now."""
        entries: list[ManifestEntry] = []
        for entry in manifest.entries:
            found = await self._context.transfers.head(volume.remote, entry.key) if entry.key in note.keys else None
            entries.append(entry if found is None else replace(entry, etag=found.etag))
        return replace(manifest, entries=tuple(entries))


def _reason(keys: tuple[str, ...]) -> str:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{keys[0]}{more} in the remote are gone or have other bytes"
