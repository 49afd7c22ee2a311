"""A plain copy of a checkpoint in any directory, verified."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from ckptd.catalog import FileRow
from ckptd.domain.errors import CkptdError, IntegrityError, NotKnown, UsageError
from ckptd.domain.model import Attributes, Place
from ckptd.domain.names import CheckpointId, path_of
from ckptd.engine.context import Context
from ckptd.engine.doubting import Doubting, Member
from ckptd.engine.mending import absent
from ckptd.engine.operations import Progress
from ckptd.engine.prefetching import Choosing
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume
from ckptd.manifest import ManifestEntry
from ckptd.tiers.attributes import dress


class Restoring:
    def __init__(self, context: Context, choosing: Choosing, doubting: Doubting) -> None:
        self._context = context
        self._choosing = choosing
        self._doubting = doubting

    async def restore(self, progress: Progress) -> None:
        """Raises UsageError for a destination with files in it, NotKnown, IntegrityError, RemoteError, NoRoom."""
        operation = progress.operation
        volume = self._context.volume(operation.volume)
        destination = operation.arguments["dest"]
        unit = await self._choosing.restorable(volume, CheckpointId.parse(operation.target))
        _usable(destination)
        base = _base(unit)
        progress.total = unit.bytes
        placed: list[str] = []
        members: list[Member] = [*unit.rows, *unit.cold.values()]
        try:
            for member in members:
                target = _target(destination, base, member.path)
                await self._member(volume, unit, member, target, progress)
                placed.append(target)
        except IntegrityError:
            _take_back(placed, destination)
            raise
        progress.result = destination

    async def _member(self, volume: Volume, unit: Unit, member: Member, target: str, progress: Progress) -> None:
        """Bytes that do not come as they should are looked into; then it is tried once more."""
        try:
            await self._one(volume, member, target, progress)
        except CkptdError as error:
            if not absent(error):
                raise
            await self._doubting.settle(volume, unit, [(member, error)])
            row = await self._context.catalog.files.at(volume.name, member.path)
            await self._one(volume, member if row is None else row, target, progress)

    async def _one(self, volume: Volume, member: Member, target: str, progress: Progress) -> None:
        if isinstance(member, ManifestEntry):
            await self._entry(volume, member, target, progress)
        else:
            await self._row(volume, member, target, progress)

    async def _row(self, volume: Volume, row: FileRow, target: str, progress: Progress) -> None:
        if row.link is not None:
            _link(row.link, target)
            return
        local = row.local()
        remote = row.copy(Place.REMOTE)
        part = _part(target)
        if local is not None:
            await self._context.transfers.copy(
                local.location, row.stamp(local), part, expect=row.checksums, on_bytes=progress.add
            )
        elif remote is not None and row.checksums is not None:
            entry = ManifestEntry(remote.location, row.attributes, row.checksums)
            await self._fetch(volume, entry, part, progress)
        else:
            raise NotKnown(f"no copy is left of {row.path}")
        _finish(part, target, row.attributes)

    async def _entry(self, volume: Volume, entry: ManifestEntry, target: str, progress: Progress) -> None:
        if entry.link is not None:
            _link(entry.link, target)
            return
        part = _part(target)
        await self._fetch(volume, entry, part, progress)
        _finish(part, target, entry.attributes)

    async def _fetch(self, volume: Volume, entry: ManifestEntry, part: str, progress: Progress) -> None:
        if entry.checksums is None:
            raise NotKnown(f"the manifest has no checksum of {entry.key}")
        await self._context.transfers.download(
            volume.remote, entry.key, part, checksums=entry.checksums,
            journal_key=f"restore/{progress.operation.id}/{entry.key}", on_bytes=progress.add,
        )  # fmt: skip


def _take_back(placed: Sequence[str], destination: str) -> None:
    """A part of a checkpoint looks like one to whoever does not know."""
    for target in placed:
        with contextlib.suppress(OSError):
            os.unlink(target)
    for directory, _, _ in os.walk(destination, topdown=False):
        if directory != destination:
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _usable(destination: str) -> None:
    """An unfinished earlier try (only parts of ours) is continued."""
    try:
        names = os.listdir(destination)
    except FileNotFoundError:
        try:
            os.makedirs(destination)
        except OSError as error:
            raise UsageError(
                f"{destination} cannot be made: {error.strerror}", hint="name a directory that can be written"
            ) from error
        return
    except OSError as error:
        raise UsageError(
            f"{destination} cannot be used: {error.strerror}",
            hint="name a new or an empty directory that can be written",
        ) from error
    if any(not name.endswith(".ckptd-part") for name in names):
        raise UsageError(f"{destination} is not empty", hint="name a new or an empty directory")


def _base(unit: Unit) -> str:
    """What is cut off the files' paths: the checkpoint's directory, or the directory of its single file."""
    root = path_of(unit.root)
    paths = [row.path for row in unit.rows] + list(unit.cold)
    return os.path.dirname(root) if root in paths else root


def _target(destination: str, base: str, path: str) -> str:
    target = os.path.join(destination, os.path.relpath(path, base or "."))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    return target


def _part(target: str) -> str:
    directory, name = os.path.split(target)
    return os.path.join(directory, f"{name[:200]}.ckptd-part")


def _link(link: str, target: str) -> None:
    if not os.path.lexists(target):
        os.symlink(link, target)


def _finish(part: str, target: str, attributes: Attributes) -> None:
    dress(part, attributes)
    os.replace(part, target)
