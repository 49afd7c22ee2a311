"""Manifests known to be in the remotes, in memory (and in the catalog, for a start without the remote)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import structlog

from ckptd.catalog import Catalog, CopyRow, ManifestRow
from ckptd.catalog.nodes import Withdrawal
from ckptd.domain.access import Owned
from ckptd.domain.errors import CkptdError, IntegrityError, StateUnusable
from ckptd.domain.model import Place
from ckptd.domain.names import path_of
from ckptd.engine.adopting import adopt_members
from ckptd.engine.volume import Volume
from ckptd.layouts import Member, judge, locate
from ckptd.layouts.spread import elsewhere
from ckptd.manifest import Manifest, ManifestEntry
from ckptd.manifest.packed import PackedEntries
from ckptd.manifest.quarantine import Note, note_of
from ckptd.manifest.store import Listed
from ckptd.transfer.side_by_side import side_by_side

_READS_AT_A_TIME = 16
_RECORDED_TOGETHER = 256
"""A node that is new to a remote has every manifest to read, each a round trip."""

CLOCK_STEP_S = 0.001
"""Manifests carry milliseconds."""
_UNPACKED = 64
"""Checkpoints whose entries are kept as objects: those that something is being done to."""

log = structlog.get_logger()

UnitKey = tuple[str, str, int]
"""Volume, run, step."""


@dataclass(frozen=True, eq=False)
class Committed:
    """All manifests of one checkpoint. Never changed, always replaced: the same object means that nothing changed."""

    by_node: Mapping[str, Manifest] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()
    quarantined: Mapping[str, Note] = field(default_factory=dict)
    """Why it is not offered, by node whose manifest was put aside."""

    @cached_property
    def fitting(self) -> Mapping[str, Manifest]:
        """Those of one attempt: where the step was written again, a manifest that another one replaces does not count."""
        if len(self.by_node) < 2:
            return self.by_node
        found = {name: own for name, own in self.by_node.items() if self.replaced_by(name, own.written_at) is None}
        return found or self.by_node

    def replaced_by(self, node: str, written_at: float) -> str | None:
        """The other node that wrote the step anew after `node` had written what is from `written_at`."""
        return next(
            (
                name
                for name, other in self.by_node.items()
                if name != node and other.replaces.get(node, -math.inf) >= written_at - CLOCK_STEP_S
            ),
            None,
        )

    @cached_property
    def several(self) -> bool:
        """More nodes than one write it."""
        return len(self.by_node) > 1 or any(manifest.nodes != 1 for manifest in self.by_node.values())

    @property
    def expected(self) -> int:
        """How many nodes' manifests make it whole; 0: nobody can tell, the union decides."""
        return max((manifest.nodes for manifest in self.fitting.values()), default=0)

    @cached_property
    def lacking(self) -> str:
        """What the union of the manifests lacks, by their names and indexes; "" if nothing."""
        return lacking(self.fitting.values()) if self.several else ""

    @property
    def whole(self) -> bool:
        """All expected nodes' manifests are there, of one attempt, and none of them in quarantine."""
        return not self.quarantined and bool(self.by_node) and len(self.fitting) >= self.expected and not self.lacking

    @property
    def first(self) -> Manifest:
        return next(iter(self.fitting.values()))

    def entries(self) -> dict[str, ManifestEntry]:
        """By path in the volume. Not to be changed by the caller."""
        return _entries(self)

    @cached_property
    def owners(self) -> Mapping[int, tuple[float, Owned]]:
        """Whose the run is, by its manifests: of each user the last word, and when it was written."""
        found: dict[int, tuple[float, Owned]] = {}
        for manifest in sorted(self.by_node.values(), key=lambda one: one.written_at):
            if (owner := manifest.owner) is not None:
                found[owner.uid] = manifest.written_at, owner
        return found

    @cached_property
    def directories(self) -> Mapping[str, Owned]:
        """By path; as the node says that wrote last."""
        found: dict[str, Owned] = {}
        for manifest in sorted(self.fitting.values(), key=lambda one: one.written_at):
            found |= manifest.directories
        return found

    @property
    def files(self) -> int:
        return len(self.entries()) if len(self.fitting) > 1 else len(self.first.entries)

    @property
    def bytes(self) -> int:
        if len(self.fitting) == 1 and isinstance(packed := self.first.entries, PackedEntries):
            return packed.size
        return sum(entry.size for entry in self.entries().values())

    @property
    def times(self) -> tuple[int, int] | None:
        """`Written.model_at`, `Written.last_at`; None: to be found out from the entries."""
        if len(self.fitting) == 1 and isinstance(packed := self.first.entries, PackedEntries) and len(packed):
            return packed.times
        return None

    @property
    def written_at(self) -> float:
        return max(manifest.written_at for manifest in self.fitting.values())

    @property
    def committed_at(self) -> float:
        return max(manifest.committed_at for manifest in self.fitting.values())


def lacking(manifests: Iterable[Manifest]) -> str:
    """What manifests lack together to be whole; "" if nothing, as far as their names and indexes tell."""
    keys = {entry.key: entry.path for manifest in manifests for entry in manifest.entries}
    named = sorted({key for manifest in manifests for key in manifest.lacks} - keys.keys())
    if named:
        return f"lacks {named[0].rpartition('/')[2]}" + (f" and {len(named) - 1} more" if len(named) > 1 else "")
    said = judge([Member(path, True, None, 0.0) for path in keys.values()], now=1e9, settle_s=0.0, previous=None)
    return elsewhere(list(keys.values())) or said.reason


async def _say_nothing(volume: str, item: Listed, error: CkptdError) -> None:
    del volume, item, error


@lru_cache(maxsize=_UNPACKED)
def _entries(committed: Committed) -> dict[str, ManifestEntry]:
    return {entry.path: entry for manifest in committed.fitting.values() for entry in manifest.entries}


class KnownManifests:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[UnitKey, Committed] = {}
        self._steps: dict[tuple[str, str], dict[int, None]] = defaultdict(dict)
        """Of each run, in the order in which they came: the keys of `_known`."""
        self._withdrawn: dict[UnitKey, Mapping[str, Withdrawal]] = {}
        self._refused: dict[tuple[str, str], str] = {}
        """Versions of objects, by volume and key, that are no manifests: not to be read again."""
        self.on_refused: Callable[[str, Listed, CkptdError], Awaitable[object]] = _say_nothing
        """Told once of each: volume, the object, why."""

    async def load(self) -> None:
        self._withdrawn.update(await self._catalog.nodes.withdrawals())
        for row in await self._catalog.manifests.all():
            name = f"catalog: {row.run}@{row.step}"
            try:
                self._remember(row, Manifest.from_json(row.body, name, entries=PackedEntries.of_json, trusted=True))
            except CkptdError as error:  # the remote tells it anew
                log.warning("manifest.unreadable", run=row.run, step=row.step, error=error.message)

    def _remember(self, row: ManifestRow, manifest: Manifest) -> None:
        unit = self._known.get((row.volume, row.run, row.step), Committed())
        note = note_of(row.body)
        if not isinstance(manifest.entries, PackedEntries):
            manifest = replace(manifest, entries=PackedEntries.of(manifest.entries))
        quarantined = {node: old for node, old in unit.quarantined.items() if node != row.node}
        self._steps[row.volume, row.run][row.step] = None
        self._known[row.volume, row.run, row.step] = Committed(
            {**unit.by_node, row.node: manifest}, {**unit.versions, row.node: row.etag}, row.forgotten,
            quarantined if note is None else {**quarantined, row.node: note},
        )  # fmt: skip

    def of(self, volume: str, run: str, step: int) -> Committed | None:
        return self._known.get((volume, run, step))

    def units(self, volume: str | None = None, run: str | None = None) -> Iterable[tuple[UnitKey, Committed]]:
        if volume is not None and run is not None:
            for step in tuple(self._steps.get((volume, run), ())):
                yield (volume, run, step), self._known[volume, run, step]
            return
        for key, unit in self._known.items():
            if volume in (None, key[0]) and run in (None, key[1]):
                yield key, unit

    def has_run(self, volume: str, run: str) -> bool:
        return bool(self._steps.get((volume, run)))

    def _forget(self, key: UnitKey) -> None:
        if self._known.pop(key, None) is not None:
            self._steps[key[:2]].pop(key[2])

    async def put(self, volume: str, manifest: Manifest, version: str, text: str) -> None:
        """A manifest that was just written or read: it replaces what was known of that node's."""
        row = ManifestRow(volume, manifest.run, manifest.step, manifest.node, version, manifest.committed_at, text)
        before = self.of(volume, manifest.run, manifest.step)
        old, new = None if before is None else before.quarantined.get(manifest.node), note_of(text)
        if new is not None:
            await self._not_durable(volume, new)
        await self._catalog.manifests.put(row)
        self._remember(row, manifest)
        if old is not None and new is None:
            await self._durable_again(volume, manifest, old)

    async def _not_durable(self, volume: str, note: Note) -> None:
        """Whoever found it: what is bad in the remote goes up again from where it is good. Before the manifest is known to
        be in quarantine, or the planner would write it anew as it was.
        """
        paths = [path_of(key) for key in note.keys]
        for row in (await self._catalog.files.at_paths(volume, paths)).values():
            if row.local() is not None:
                await self._catalog.files.drop_copy(row.id, Place.REMOTE)

    async def _durable_again(self, volume: str, manifest: Manifest, note: Note) -> None:
        """Another node has sent it."""
        entries = {entry.path: entry for entry in manifest.entries if entry.key in note.keys}
        for path, row in (await self._catalog.files.at_paths(volume, list(entries))).items():
            entry = entries[path]
            if not row.durable and row.checksums and entry.checksums and row.checksums.whole == entry.checksums.whole:
                copy = CopyRow(Place.REMOTE, row.generation, entry.key, etag=entry.etag)
                await self._catalog.files.put_copy(row.id, copy)

    def withdrawn(self) -> Mapping[UnitKey, Mapping[str, Withdrawal]]:
        """Manifests that went, by unit and node. The inner mappings are never changed, always replaced."""
        return self._withdrawn

    async def withdraw(self, key: UnitKey, manifests: Iterable[Manifest], *, ours: bool) -> None:
        """They are about to be deleted, or were found to be gone."""
        went = {one.node: Withdrawal(round(one.written_at, 3), ours) for one in manifests}
        self._withdrawn[key] = {**self._withdrawn.get(key, {}), **went}
        await self._catalog.nodes.withdrew(*key, went)

    async def forget_withdrawn(self, volume: str, run: str, step: int) -> None:
        if self._withdrawn.pop((volume, run, step), None) is not None:
            await self._catalog.nodes.forget(volume, run, step)

    async def delete_all(self, volume: str) -> int:
        """The volume has another remote now. Returns how many checkpoints were known in the old one."""
        keys = [key for key, _ in self.units(volume)]
        for key in keys:
            await self.delete(*key)
        await self._catalog.nodes.another_remote(volume)
        for key in [key for key in self._withdrawn if key[0] == volume]:
            del self._withdrawn[key]
        return len(keys)

    async def delete(self, volume: str, run: str, step: int) -> None:
        await self._catalog.manifests.delete(volume, run, step)
        self._forget((volume, run, step))

    async def delete_node(self, volume: str, run: str, step: int, node: str) -> None:
        """That node's manifest was deleted in the remote; those of the others stay."""
        unit = self._known.get((volume, run, step))
        await self._catalog.manifests.delete(volume, run, step, node)
        if unit is not None:
            self._drop_nodes((volume, run, step), unit, [node])

    def _drop_nodes(self, key: UnitKey, unit: Committed, gone: Collection[str]) -> None:
        self._forget(key)
        if left := {name: manifest for name, manifest in unit.by_node.items() if name not in gone}:
            versions = {name: version for name, version in unit.versions.items() if name not in gone}
            quarantined = {name: note for name, note in unit.quarantined.items() if name not in gone}
            self._steps[key[:2]][key[2]] = None
            self._known[key] = replace(unit, by_node=left, versions=versions, quarantined=quarantined)

    async def forget_members(self, volume: str, run: str, step: int, keys: Collection[str]) -> None:
        unit = self._known.get((volume, run, step))
        if unit is not None:
            self._known[volume, run, step] = replace(unit, forgotten=unit.forgotten | set(keys))
            await self._catalog.manifests.forget_members(volume, run, step, keys)

    async def recall_member(self, volume: str, entry: ManifestEntry) -> None:
        """A file that the job had deleted here is brought back."""
        where = locate(entry.path)
        unit = None if where.step is None else self._known.get((volume, where.run, where.step))
        if unit is not None and where.step is not None and entry.key in unit.forgotten:
            self._known[volume, where.run, where.step] = replace(unit, forgotten=unit.forgotten - {entry.key})
            await self._catalog.manifests.recall_member(volume, where.run, where.step, entry.key)

    async def refresh(self, volume: Volume, run: str | None = None, step: int | None = None) -> None:
        """Looks into the remote for manifests that came or went. Raises RemoteError.

        What was committed or deleted here while the answer was on its way is newer than the answer.
        """
        before = dict(self.units(volume.name, run))
        listed = await volume.manifests.listing(run, step)
        by_unit: dict[UnitKey, dict[str, Listed]] = defaultdict(dict)
        for item in listed:
            by_unit[volume.name, item.run, item.step][item.node] = item
        for key, unit in before.items():
            gone = [node for node in unit.by_node if node not in by_unit.get(key, {})]
            if gone and step in (None, key[2]) and self._known.get(key) is unit:
                await self._forget_nodes(volume, key, unit, gone)
        new = [
            (key, item)
            for key, nodes in by_unit.items()
            for item in nodes.values()
            if self._version(key, item.node) != item.version
            and self._refused.get((volume.name, item.key)) != item.version
        ]
        for begin in range(0, len(new), _RECORDED_TOGETHER):
            await self._read_all(volume, new[begin : begin + _RECORDED_TOGETHER])

    async def _forget_nodes(self, volume: Volume, key: UnitKey, unit: Committed, gone: Collection[str]) -> None:
        # A row for each member: those that are neither here nor in the remote any more are lost, not forgotten.
        forgotten = replace(unit, by_node={name: unit.by_node[name] for name in gone})
        if not unit.several:  # what other nodes wrote is theirs to keep
            await adopt_members(self._catalog, volume, key[1], key[2], forgotten)
        if self._known.get(key) is not unit:
            return  # committed anew meanwhile
        self._drop_nodes(key, unit, gone)
        await self.withdraw(key, [unit.by_node[node] for node in gone], ours=False)
        for node in gone:
            await self._catalog.manifests.delete(*key, node)
        # Somebody deleted it, and its objects perhaps too: what is here is only durable once it was sent again.
        paths = [entry.path for name in gone for entry in unit.by_node[name].entries]
        for row in (await self._catalog.files.at_paths(key[0], paths)).values():
            if row.local() is not None:
                await self._catalog.files.drop_copy(row.id, Place.REMOTE)

    def _version(self, key: UnitKey, node: str) -> str | None:
        unit = self._known.get(key)
        return None if unit is None else unit.versions.get(node)

    async def _read_all(self, volume: Volume, new: Sequence[tuple[UnitKey, Listed]]) -> None:
        """Reads what was listed and remembers it: hundreds in one transaction, where a node is new to a remote."""
        found: list[tuple[UnitKey, Listed, str | None, Manifest, str]] = []

        async def read(pair: tuple[UnitKey, Listed]) -> None:
            key, item = pair
            known = self._version(key, item.node)
            try:
                answer = await volume.manifests.read(item)
            except (IntegrityError, StateUnusable) as error:
                # Of a newer format, or no manifest at all: what we cannot read we do not offer, and it harms no other.
                self._refused[volume.name, item.key] = item.version
                await self.on_refused(volume.name, item, error)
                return
            if answer is not None:
                found.append((key, item, known, *answer))

        await side_by_side(new, read, _READS_AT_A_TIME)
        async with self._catalog.transaction():
            for key, item, known, manifest, text in found:
                if self._version(key, item.node) == known:
                    await self.put(volume.name, manifest, item.version, text)
