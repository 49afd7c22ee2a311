"""Which object of an earlier step a file probably has bytes in common with: the frozen weights of a fine-tuning run are the
same in every checkpoint.

Only a hint (`ckptd.transfer.reuse` says what becomes of it). So nothing is asked of the remote here, and what is pruned
or written again meanwhile needs no lock: the store compares versions, and a part that it does not copy is sent.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping

from ckptd.catalog import FileRow
from ckptd.engine.known import Committed, KnownManifests, UnitKey
from ckptd.layouts.names import comparable
from ckptd.manifest import ManifestEntry
from ckptd.transfer.reuse import LEAST
from ckptd.transfer.transfers import Reusable

STEPS_BACK = 3
"""Committed checkpoints that are looked into for a file of that name: an optimizer may be saved at every other step."""
FRESH_S = 1.0
"""A checkpoint may have 100,000 files: which steps are before it is not asked anew for each."""
_INDEXES_KEPT = 8

Index = Mapping[str, ManifestEntry]
"""Files of a checkpoint that are worth it, by the name that steps have in common."""


def index_of(committed: Committed) -> Index:
    """Nothing of a checkpoint in quarantine: some bytes of it are known to be wrong."""
    if committed.quarantined:
        return {}
    return {
        comparable(entry.path): entry
        for entry in committed.entries().values()
        if entry.size >= LEAST and entry.etag and _divided(entry)
    }


def _divided(entry: ManifestEntry) -> bool:
    """Whether its checksums fit its size: others may write manifests too."""
    sums = entry.checksums
    return sums is not None and sums.part_size > 0 and len(sums.parts) == -(-sums.size // sums.part_size)


def steps_before(step: int, steps: Iterable[int]) -> list[int]:
    """The newest ones, newest first."""
    return sorted((each for each in steps if each < step), reverse=True)[:STEPS_BACK]


def choose(path: str, key: str, indexes: Iterable[Index], unusable: Container[str]) -> Reusable | None:
    """From the first index (newest first) that has a file of the same name.

    `key`: where the file itself goes. `unusable`: keys that are being deleted.
    """
    name = comparable(path)
    for index in indexes:
        entry = index.get(name)
        if entry is None or entry.checksums is None or entry.key == key or entry.key in unusable:
            continue
        return Reusable(entry.key, entry.etag, entry.checksums)
    return None


class Reusing:
    def __init__(self, known: KnownManifests, clock: Callable[[], float] = time.monotonic) -> None:
        self._known = known
        self._clock = clock
        self._indexes: OrderedDict[UnitKey, tuple[Committed, Index]] = OrderedDict()
        self._before: tuple[UnitKey, float, list[int]] | None = None

    def origin(self, row: FileRow, key: str, deleting: Container[str]) -> Reusable | None:
        """What the upload of this file may copy from."""
        if row.step is None or row.size < LEAST:
            return None
        return choose(row.path, key, self._indexes_before((row.volume, row.run, row.step)), deleting)

    def _indexes_before(self, unit: UnitKey) -> Iterable[Index]:
        volume, run, _ = unit
        for step in self._steps_before(unit):
            # Looked up anew each time: one that was uncommitted since is no source any more.
            if (committed := self._known.of(volume, run, step)) is not None:
                yield self._index((volume, run, step), committed)

    def _steps_before(self, unit: UnitKey) -> list[int]:
        now = self._clock()
        if self._before is None or self._before[0] != unit or now - self._before[1] > FRESH_S:
            volume, run, step = unit
            self._before = unit, now, steps_before(step, (key[2] for key, _ in self._known.units(volume, run)))
        return self._before[2]

    def _index(self, unit: UnitKey, committed: Committed) -> Index:
        kept = self._indexes.pop(unit, None)
        if kept is None or kept[0] is not committed:
            kept = committed, index_of(committed)
        self._indexes[unit] = kept
        while len(self._indexes) > _INDEXES_KEPT:
            self._indexes.popitem(last=False)
        return kept[1]
