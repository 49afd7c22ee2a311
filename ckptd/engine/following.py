"""Pointer files (`latest`) that a prefetched checkpoint needs beside it: frameworks resume from what they name."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import structlog

from ckptd.domain.errors import CkptdError, Conflict
from ckptd.domain.model import Attributes
from ckptd.domain.names import key_of, path_of
from ckptd.engine.context import Context
from ckptd.engine.unit import Unit
from ckptd.engine.volume import Volume
from ckptd.layouts.pointers import POINTER_LIMIT, pointed_step, pointers_beside
from ckptd.tiers import swap

log = structlog.get_logger()

_READ_AND_WRITE = 0o666


async def bring_pointers(context: Context, volume: Volume, unit: Unit) -> None:
    """Fetches those that are missing here and name this very checkpoint; what the job has here stays as it is.

    The checkpoint itself is there already, so a remote that does not answer now costs the pointer and nothing else.
    """
    directory = os.path.dirname(path_of(unit.root))
    if not unit.root or unit.committed is None:
        return
    for name in pointers_beside(unit.framework):
        path = os.path.join(directory, name)
        if os.path.lexists(volume.locate(path)):
            continue
        try:
            await _bring(context, volume, unit, path)
        except (CkptdError, OSError) as error:
            log.warning("pointer.not_fetched", volume=volume.name, path=path, error=str(error))


async def _bring(context: Context, volume: Volume, unit: Unit, path: str) -> None:
    key = key_of(path)
    found = await context.transfers.head(volume.remote, key)
    if found is None or found.size > POINTER_LIMIT:
        return
    text = await context.transfers.get(volume.remote, key)
    if text is None or pointed_step(os.path.basename(path), text) != unit.step:
        return
    staged = context.tiers[volume.home].staged(f"pointer-{secrets.token_hex(8)}")
    try:
        Path(staged).write_bytes(text)
        swap.put_in_place(staged, volume.root, path, _like_the_checkpoint(unit, context.clock()))
    except Conflict:
        pass  # the job was quicker
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)


def _like_the_checkpoint(unit: Unit, now: float) -> Attributes:
    """The owner and rights of one of its files; a pointer has no manifest that would say them."""
    model = unit.rows[0].attributes if unit.rows else next(iter(unit.cold.values())).attributes
    return Attributes(model.mode & _READ_AND_WRITE, model.uid, model.gid, int(now * 1e9))
