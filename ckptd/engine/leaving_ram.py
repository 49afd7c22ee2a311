"""At an orderly end: may the RAM tier's memory be given back?"""

from __future__ import annotations

from ckptd.domain.model import Place
from ckptd.engine.context import Context
from ckptd.tiers import dispensable


async def mark(context: Context) -> None:
    """Leaves the mark, if all that RAM holds is durable or in another tier. A kill leaves none: then the tier stays."""
    ram = context.tiers.get(Place.RAM)
    if ram is None or not any(volume.front.is_mount for volume in context.volumes.values()):
        return  # a directory in /dev/shm, which stays
    for row in await context.catalog.files.all():
        elsewhere = row.durable or row.copy(Place.NVME) is not None
        if row.link is None and not elsewhere and (not row.closed or Place.RAM in row.copies):
            return
    dispensable.mark(ram.path)
