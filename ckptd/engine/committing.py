"""The commit point: manifests are written after all files are durable, and deleted before any of them is replaced."""

from __future__ import annotations

from ckptd.catalog import FileRow
from ckptd.domain.errors import RemoteError, SourceChanged
from ckptd.domain.model import CheckpointState, Place
from ckptd.domain.names import key_of
from ckptd.engine import looking
from ckptd.engine.adopting import adopt_members
from ckptd.engine.confirming import still_there
from ckptd.engine.context import Context
from ckptd.engine.units import Unit, assemble
from ckptd.engine.volume import Volume
from ckptd.layouts import locate
from ckptd.manifest import Manifest, ManifestEntry
from ckptd.policy.policy import Policy
from ckptd.tiers.lease import has_writer


class Committing:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def commit(self, volume_name: str, run: str, step: int, policy: Policy) -> None:
        """Writes this node's manifest, if the checkpoint is (still) complete and durable.

        Raises RemoteError, and SourceChanged when a file is not what the catalog says (the front will tell what it is).
        """
        context = self._context
        volume = context.volumes[volume_name]
        context.require_met(volume_name)
        unit = await self._unit(volume, run, step, policy)
        rows = [] if unit is None else [row for row in unit.rows if not locate(row.path).temporary]
        if unit is None or unit.state is not CheckpointState.COMPLETE or not all(row.durable for row in rows):
            return
        for row in rows:
            self._untouched(row)
        await still_there(context, volume, rows)
        manifest = self._manifest(unit, run, step)
        described = {entry.key for entry in manifest.entries}
        context.committing |= described
        try:
            version, text = await volume.manifests.write(manifest)
            await context.known.put(volume_name, manifest, version, text)
        except RemoteError as error:
            if error.backend_code == "precondition":
                await context.known.refresh(volume, run, step)  # the next plan deals with what is there
            raise
        finally:
            context.committing -= described
        took = manifest.committed_at - unit.written_at
        message = f"{run}@{step} is durable: {len(manifest.entries)} files, {took:.1f} s after its last write"
        await context.event(
            "info", "checkpoint.committed", message,
            volume=volume_name, run=run, step=step, bytes=manifest.size, seconds=round(took, 3),
        )  # fmt: skip

    async def _unit(self, volume: Volume, run: str, step: int, policy: Policy) -> Unit | None:
        """Looks at it afresh. Completeness cannot be judged by one step alone, so the whole run is looked at."""
        context = self._context
        rows = await context.catalog.files.of_run(volume.name, run)
        known = context.known.units(volume.name, run)
        units = assemble(rows, known, {(volume.name, run): policy}, context.clock(), node=context.node)
        return next((unit for unit in units if unit.step == step), None)

    @staticmethod
    def _untouched(row: FileRow) -> None:
        copy = row.local()
        if copy is None:
            return
        found = looking.find(copy.location)
        if found is None or found.stamp != row.stamp(copy) or has_writer(copy.location):
            raise SourceChanged(f"{row.path} is being written again")

    def _manifest(self, unit: Unit, run: str, step: int) -> Manifest:
        entries = [
            ManifestEntry(key_of(row.path), row.attributes, row.checksums, row.link, _etag(row))
            for row in unit.rows
            if not locate(row.path).temporary
        ]
        entries += unit.cold.values()
        return Manifest(
            run, step, self._context.node, 1, unit.framework, self._context.writer, key_of(unit.root), unit.written_at,
            self._context.clock(), tuple(sorted(entries, key=lambda entry: entry.key)),
        )  # fmt: skip

    async def uncommit(self, volume_name: str, run: str, step: int) -> None:
        """Deletes every node's manifest of it: the objects they describe are about to be replaced."""
        committed = self._context.known.of(volume_name, run, step)
        if committed is None:
            return
        volume = self._context.volumes[volume_name]
        self._context.require_met(volume_name)
        await adopt_members(self._context.catalog, volume, run, step, committed)
        await volume.manifests.delete(run, step, committed.by_node)
        await self._context.known.delete(volume_name, run, step)
        await self._context.event(
            "info", "checkpoint.uncommitted", f"{run}@{step} was written again: no longer offered until it is durable anew",
            volume=volume_name, run=run, step=step,
        )  # fmt: skip


def _etag(row: FileRow) -> str:
    copy = row.copy(Place.REMOTE)
    return copy.etag if copy is not None else ""
