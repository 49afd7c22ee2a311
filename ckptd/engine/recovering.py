"""What a kill, a reboot or a lost catalog left behind, put right before the fronts look."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import structlog

from ckptd.catalog import FileRow
from ckptd.domain.errors import Conflict
from ckptd.domain.model import Place
from ckptd.engine.context import Context
from ckptd.engine.staging import clear_staging
from ckptd.engine.volume import Volume
from ckptd.tiers import swap
from ckptd.tiers.attributes import read_origin
from ckptd.tiers.object_names import number_of
from ckptd.tiers.recover import recover
from ckptd.tiers.spilled import is_spilled

log = structlog.get_logger()

_MARKER = ".ckptd-tier"
_FACT = "ram_tier"
_NAMED = 100
"""Lost files that get an event each; all of them are counted."""


async def settle_ram(context: Context) -> None:
    """Writes off what the RAM tier held if it is another one than the catalog speaks of (a reboot, somebody's `rm`)."""
    ram = context.tiers.get(Place.RAM)
    if ram is None:
        return
    known = await context.catalog.facts.get(_FACT)
    present = _mark(Path(ram.path, _MARKER))
    async with context.catalog.transaction():  # a kill half way must not leave rows that look as if a job had deleted
        lost = await _write_off(context) if known not in (None, present) else []
        await context.catalog.facts.set(_FACT, present)
    await _tell_lost(context, "RAM", lost)


async def settle_objects(context: Context) -> None:
    """Writes off demoted files whose objects are gone (another disk, somebody's `rm`): what is durable is cold now."""
    for volume in context.volumes.values():
        if volume.objects is None:
            continue
        there = set(os.listdir(volume.objects))
        lost: list[FileRow] = []
        async with context.catalog.transaction():
            for row in await context.catalog.files.all(volume.name):
                nvme = row.copies.get(Place.NVME)
                if nvme is None or os.path.basename(nvme.location) in there:
                    continue
                await context.catalog.files.drop_copy(row.id, Place.NVME)
                if row.places == {Place.NVME}:
                    lost.append(row)
            await context.catalog.files.delete([row.id for row in lost if row.step is None])
        await _tell_lost(context, "NVMe", lost)


async def _tell_lost(context: Context, tier: str, lost: Sequence[FileRow]) -> None:
    for row in lost[:_NAMED]:
        await context.event(
            "error", "file.lost", f"{row.path} lived only in {tier}, which was lost",
            volume=row.volume, path=row.path, bytes=row.size,
        )  # fmt: skip
    if lost:
        total = sum(row.size for row in lost)
        message = f"the {tier} tier was lost, and with it {len(lost)} files ({total} bytes)"
        await context.event("error", "tier.lost", message)


def _mark(marker: Path) -> str:
    """The tier's mark; a new tier gets one."""
    try:
        return marker.read_text(encoding="ascii")
    except FileNotFoundError:
        mark = secrets.token_hex(16)
        marker.write_text(mark, encoding="ascii")
        return mark


async def _write_off(context: Context) -> list[FileRow]:
    """What is durable is cold now; returns what lived only there."""
    files = context.catalog.files
    lost: list[FileRow] = []
    gone: list[int] = []
    for row in await files.all():
        volume = context.volumes.get(row.volume)
        if volume is None or volume.home is not Place.RAM:
            continue
        if not row.closed or row.link is not None:  # a link comes back by its manifest
            gone.append(row.id)
            continue
        if Place.RAM not in row.copies:
            continue
        await files.drop_copy(row.id, Place.RAM)
        if row.places <= {Place.RAM}:
            lost.append(row)
            if row.step is None:
                gone.append(row.id)
    await files.delete(gone)
    return lost


async def mend(context: Context) -> None:
    """Private places, objects without a link, staged files that no transfer goes on with."""
    for volume in context.volumes.values():
        for path in await asyncio.to_thread(recover, volume.root):
            log.warning("volume.recovered", volume=volume.name, path=path)
        await _relink_objects(context, volume)
    await clear_staging(context, starting=True)


async def _relink_objects(context: Context, volume: Volume) -> None:
    """Every demoted file is reachable at its path: by the catalog, or (when that was lost) by what the object itself says."""
    if volume.objects is None:
        return
    named = [(number_of(name), name) for name in os.listdir(volume.objects)]
    numbers = sorted(n for n, name in named if n is not None and os.path.basename(volume.object_path(n)) == name)
    if not numbers:
        return
    await context.catalog.files.reserve_ids(max((number for number in numbers if not is_spilled(number)), default=0))
    rows = {row.id: row for row in await context.catalog.files.all(volume.name)}
    unknown = [number for number in numbers if number not in rows]
    linked = await asyncio.to_thread(_linked, volume) if unknown else set()
    wanted = [(number, read_origin(volume.object_path(number))) for number in unknown if number not in linked]
    for number in numbers:
        row = rows.get(number)
        if row is not None and (row.copy(Place.NVME) is not None or row.copy(Place.RAM) is None):
            wanted.append((number, row.path))
    for number, path in wanted:
        if path is not None and not _leads_to(volume.locate(path), volume.object_path(number)):
            try:
                swap.link_in(volume.root, path, volume.object_path(number))
            except Conflict:
                pass  # the job has something else there
            except (OSError, ValueError) as error:  # a directory that we may not enter, an origin that is no path
                log.warning("object.unlinked", volume=volume.name, path=path, object=number, error=str(error))


def _leads_to(path: str, target: str) -> bool:
    """A link that is there already need not be made: there may be very many."""
    try:
        return os.readlink(path) == target
    except OSError:
        return False


def _linked(volume: Volume) -> set[int]:
    """The objects that have a link in the volume: a renamed file's object may still name its old path."""
    found = set()
    for directory, _, names in os.walk(volume.root):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.islink(path) and (number := volume.object_of(os.readlink(path))) is not None:
                found.add(number)
    return found
