"""The commit point: manifests are written after all files are durable, and deleted before any of them is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from ckptd.catalog import FileRow, UnitName
from ckptd.domain.access import Owned
from ckptd.domain.changes import Change, Deleted, ObjectSettled, Settled
from ckptd.domain.errors import Conflict, RemoteError, SourceChanged
from ckptd.domain.launch import Job
from ckptd.domain.model import CheckpointState, Place
from ckptd.domain.names import key_of, path_of
from ckptd.engine import looking
from ckptd.engine.adopting import adopt_members
from ckptd.engine.confirming import still_there
from ckptd.engine.context import Context
from ckptd.engine.known import Committed
from ckptd.engine.matching import matches
from ckptd.engine.mending import good_here
from ckptd.engine.milestones import Milestones
from ckptd.engine.unit import Unit
from ckptd.engine.units import MANY_ROWS, assemble_units
from ckptd.engine.volume import Volume
from ckptd.layouts import locate
from ckptd.manifest import Manifest, ManifestEntry
from ckptd.policy.policy import Policy
from ckptd.tiers.beneath import directories_of
from ckptd.tiers.lease import has_writer
from ckptd.tiers.ownership import owned

_TRIES = 5
"""After so many, some 6 s, a commit that finds a file touched says so."""

Seen = Mapping[UnitName, Unit]


class Committing:
    def __init__(self, context: Context, milestones: Milestones) -> None:
        self._context = context
        self._milestones = milestones

    async def commit(self, volume_name: str, run: str, step: int, policy: Policy, before: Seen) -> None:
        """Writes this node's manifest, if the checkpoint is (still) complete and durable. `before`: what a look saw of its run.

        Raises RemoteError, and SourceChanged when a file is not what the catalog says (the front will tell what it is).
        """
        context = self._context
        volume = context.volumes[volume_name]
        context.require_met(volume_name)
        unit = await self._unit(volume, run, step, policy, before)
        if unit is not None and (unit.part is not None or unit.addition is not None):
            # A part must fit to what the others have written by now, and what is added to be added to what is there.
            await context.known.refresh(volume, run, step)
            unit = await self._unit(volume, run, step, policy, before)
        if unit is None or not _ready(unit):
            return
        rows = [row for row in unit.mine if not locate(row.path).temporary and row.id not in unit.aside]
        if not all(row.durable for row in rows):
            return
        await self._require_untouched(volume, run, step, rows)
        await still_there(context, volume, rows)
        if unit.addition is not None:
            await self._refuse_namesake(volume, run, step)
        job = await context.catalog.jobs.of_run(volume_name, run)
        manifest = await asyncio.to_thread(self._manifest, unit, rows, run, step, job)
        described = {entry.key for entry in manifest.entries}
        context.committing |= described
        try:
            replaced = {} if unit.addition is None or unit.committed is None else unit.committed.by_node
            write = volume.manifests.replace if context.node in replaced else volume.manifests.write
            version, text = await write(manifest)
            await context.known.put(volume_name, manifest, version, text)
            await self._take_back(
                volume, run, step, {node: one for node, one in replaced.items() if node != context.node}
            )
        except RemoteError as error:
            if error.backend_code == "precondition":
                await context.known.refresh(volume, run, step)  # the next plan deals with what is there
                await self._refuse_namesake(volume, run, step)
            raise
        finally:
            context.committing -= described
        await self._tell(volume, manifest, unit, rows)

    async def _take_back(self, volume: Volume, run: str, step: int, theirs: Mapping[str, Manifest]) -> None:
        """Manifests of other nodes, which this node's describes too: something was added to their checkpoint here."""
        if not theirs:
            return
        await self._context.known.withdraw((volume.name, run, step), theirs.values(), ours=True)
        await volume.manifests.delete(run, step, theirs)
        for node in theirs:
            await self._context.known.delete_node(volume.name, run, step, node)

    async def _tell(self, volume: Volume, manifest: Manifest, unit: Unit, rows: Sequence[FileRow]) -> None:
        context, run, step = self._context, manifest.run, manifest.step
        copied = self._copied(rows)
        took = manifest.committed_at - manifest.written_at
        what = f"{len(manifest.entries)} files, {took:.1f} s after its last write"
        if unit.addition is not None:
            took = context.clock() - max(row.changed_at for row in rows if row.path in unit.added)
            what = f"{len(unit.added)} of {len(manifest.entries)} files were added, {took:.1f} s ago"
        else:
            await self._milestones.durable(unit, rows, manifest.committed_at, copied)
        committed = context.known.of(volume.name, run, step)
        figures = {
            "volume": volume.name, "run": run, "step": step, "bytes": manifest.size, "seconds": round(took, 3),
            "bytes_sent": sum(row.size for row in rows if row.link is None) - copied, "bytes_copied": copied,
        }  # fmt: skip
        if committed is not None and not committed.whole:
            message = f"{run}@{step}: this node's part is durable, the checkpoint not yet: {what}"
            await context.event("info", "checkpoint.part", message, **figures)
            return
        message = f"{run}@{step} is durable: {what}"
        if unit.part is not None:
            message = f"{run}@{step} is durable on all nodes; this one's part: {what}"
        await context.event("info", "checkpoint.committed", message, **figures)

    async def _refuse_namesake(self, volume: Volume, run: str, step: int) -> None:
        """Raises Conflict where another daemon writes under this node's name: neither may take the other's manifests away."""
        context = self._context
        committed = context.known.of(volume.name, run, step)
        there = None if committed is None else committed.by_node.get(context.node)
        if there is None or there.daemon in ("", context.daemon) or there.committed_at < context.daemon_since:
            return  # nobody's, ours, or of an earlier life of this node
        message = f"another daemon named '{context.node}' writes to {volume.remote.url}: it committed {run}@{step}"
        hint = "give each node a name of its own: node.name in its config file, or CKPTD_NODE; then restart it"
        if volume.name not in context.namesakes:
            context.namesakes.add(volume.name)
            await context.event("error", "node.namesake", message, volume=volume.name, run=run, step=step, hint=hint)
        raise Conflict(message, hint=hint)

    async def _unit(self, volume: Volume, run: str, step: int, policy: Policy, before: Seen) -> Unit | None:
        """Looks at it afresh. Completeness cannot be judged by one step alone, so the whole run is looked at; of what did not
        change since, `before` has the answer.
        """
        context = self._context
        grouped = await context.catalog.files.by_unit()
        rows = {unit: its for unit, its in grouped.items() if unit[:2] == (volume.name, run)}
        known = list(context.known.units(volume.name, run))  # of this moment: it may be gone through in a thread
        derive = partial(
            assemble_units, rows, known, {(volume.name, run): policy}, context.clock(), before, node=context.node,
            launches=dict(context.launches), withdrawn=dict(context.known.withdrawn()),
        )  # fmt: skip
        many = sum(map(len, rows.values())) > MANY_ROWS
        units = await asyncio.to_thread(derive) if many else derive()
        return next((unit for unit in units if unit.step == step), None)

    def _copied(self, rows: Sequence[FileRow]) -> int:
        """Bytes of these files that were not sent, because the remote held them."""
        told = [(row, self._context.copied.pop(row.id, None)) for row in rows]
        return sum(each[1] for row, each in told if each is not None and each[0] == row.generation)

    async def _require_untouched(self, volume: Volume, run: str, step: int, rows: Sequence[FileRow]) -> None:
        """Raises SourceChanged where a file is being written, or is not what the catalog says. When that lasts, it is said, and
        the file is looked at, should the front have missed something: else it would wait for ever, and nobody knew why.
        """
        touched = await asyncio.to_thread(_first_touched, rows)
        if touched is None:
            return
        row, location, written = touched
        tries = self._context.retries.count((volume.name, run, step)) + 1
        why = "somebody has it open for writing" if written else "it is not what was sent"
        if tries == _TRIES:
            await self._context.event(
                "warning", "commit.waits", f"{run}@{step} is not committed yet: {row.path}: {why}",
                volume=volume.name, run=run, step=step, path=row.path,
            )  # fmt: skip
        if tries >= _TRIES and not written:
            self._context.look_again(volume.name, _change(volume, row, location))
        raise SourceChanged(f"{row.path}: {why}")

    def _manifest(self, unit: Unit, rows: Sequence[FileRow], run: str, step: int, job: Job | None) -> Manifest:
        context, part = self._context, unit.part
        entries = [ManifestEntry(key_of(row.path), row.attributes, row.checksums, row.link, _etag(row)) for row in rows]
        if part is None:
            entries += unit.cold.values()
        written_at = unit.written_at if part is None else max(row.changed_at for row in rows)
        # With something added it is the same save: its times tell what came later, and is no part of the next one.
        added_to = unit.committed if unit.addition is not None else None
        committed_at = context.clock() if added_to is None else added_to.committed_at
        return Manifest(
            run, step, context.node, 1 if part is None else part.nodes, unit.framework, context.writer, key_of(unit.root),
            round(written_at, 3), round(committed_at, 3), tuple(sorted(entries, key=lambda entry: entry.key)),
            () if part is None else tuple(key_of(path) for path in part.lacks), self._replaces(unit), context.daemon,
            self._directories(unit, entries), job,
        )  # fmt: skip

    def _directories(self, unit: Unit, entries: Iterable[ManifestEntry]) -> dict[str, Owned]:
        """The run's and those below it, as they are here; of what only other nodes have, as they said."""
        volume = self._context.volumes[unit.volume]
        said = {} if unit.committed is None else unit.committed.directories
        found: dict[str, Owned] = {}
        for path in directories_of(entry.path for entry in entries):
            its = owned(volume.locate(path)) or said.get(path)
            if its is not None:
                found[path] = Owned(its.uid, its.gid, its.mode)
        return found

    def _replaces(self, unit: Unit) -> dict[str, float]:
        """Manifests of earlier attempts: those that this node took back, and those that others in this attempt did."""
        found = {node: one.written_at for node, one in unit.went.items() if one.ours}
        for manifest in () if unit.committed is None else unit.committed.fitting.values():
            for node, written_at in manifest.replaces.items():
                found[node] = max(written_at, found.get(node, written_at))
            if unit.addition is not None and manifest.node != self._context.node:
                found[manifest.node] = max(manifest.written_at, found.get(manifest.node, manifest.written_at))
        return found

    async def _good_here(self, volume: Volume, committed: Committed) -> bool:
        """Whether the copies here that are to replace what is bad in the remote are what they were."""
        paths = [path_of(key) for note in committed.quarantined.values() for key in note.keys]
        for path, row in (await self._context.catalog.files.at_paths(volume.name, paths)).items():
            if matches(row, committed.entries().get(path)) and not await good_here(self._context, volume, row):
                return False
        return True

    async def uncommit(self, volume_name: str, run: str, step: int, policy: Policy, before: Seen) -> None:
        """Deletes manifests before the objects that they describe are replaced.

        Of a checkpoint that several nodes write, only this node's own where it merely adds to its part; where it writes the
        step anew, all of those that belong to the attempt before. Those of the new attempt, which other nodes may have
        committed already, stay.
        """
        context = self._context
        volume = context.volumes[volume_name]
        context.require_met(volume_name)
        unit = await self._unit(volume, run, step, policy, before)
        if unit is not None and unit.committed is not None and unit.committed.several:
            await context.known.refresh(volume, run, step)
            unit = await self._unit(volume, run, step, policy, before)
        committed = None if unit is None else unit.committed
        if unit is None or committed is None:
            return
        if committed.quarantined and not await self._good_here(volume, committed):
            return  # what is here is no better than what the remote has
        await self._refuse_namesake(volume, run, step)
        own = committed.by_node.get(context.node)
        if unit.part is not None and not unit.rewrites:
            if own is not None:
                await volume.manifests.delete(run, step, {context.node: own})
                await context.known.delete_node(volume_name, run, step, context.node)
            return
        replaced = _earlier(committed, context.node)
        if not committed.several:
            await adopt_members(context.catalog, volume, run, step, committed)
        await context.known.withdraw((volume_name, run, step), replaced.values(), ours=True)
        await volume.manifests.delete(run, step, replaced)
        for node in replaced:
            await context.known.delete_node(volume_name, run, step, node)
        await context.event(
            "info", "checkpoint.uncommitted", f"{run}@{step} was written again: no longer offered until it is durable anew",
            volume=volume_name, run=run, step=step,
        )  # fmt: skip


def _first_touched(rows: Iterable[FileRow]) -> tuple[FileRow, str, bool] | None:
    """A file that is not as the catalog says, where it lies, and whether somebody has it open for writing."""
    for row in rows:
        copy = row.local()
        if copy is None:
            continue
        found, written = looking.find(copy.location), bool(has_writer(copy.location))
        if written or found is None or found.stamp != row.stamp(copy):
            return row, copy.location, written
    return None


def _change(volume: Volume, row: FileRow, location: str) -> Change:
    if location != volume.locate(row.path):
        return ObjectSettled(row.id)
    return Deleted(row.path, directory=False) if looking.gone(location) else Settled(row.path)


def _ready(unit: Unit) -> bool:
    return unit.part.ready if unit.part is not None else (unit.addition or unit.state) is CheckpointState.COMPLETE


def _earlier(committed: Committed, here: str) -> dict[str, Manifest]:
    """The manifests of the attempt that this node's belonged to: not those that replace it."""
    own = committed.by_node.get(here)
    return {
        node: manifest
        for node, manifest in committed.by_node.items()
        if own is None
        or node == here
        or here not in manifest.replaces
        or manifest.replaces[here] < own.written_at - 0.001
    }


def _etag(row: FileRow) -> str:
    copy = row.copy(Place.REMOTE)
    return copy.etag if copy is not None else ""
