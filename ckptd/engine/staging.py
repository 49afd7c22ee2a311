"""What downloads and copies that nobody goes on with left: staged files, and their progress in the journal."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import structlog

from ckptd.catalog import FileRow
from ckptd.engine.context import Context

log = structlog.get_logger()

_KEPT_S = 3600.0
"""So long a cancelled prefetch can be taken up again where it was, when no operation runs that would."""


_PLAIN = "plain-"


def plain_name(key: str) -> str:
    """The staged file of an object that has no row yet. It cannot be gone on with."""
    return _PLAIN + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _Staged:
    path: str
    file: int
    generation: int


async def clear_staging(context: Context, *, starting: bool = False) -> None:
    """Deletes what no running work uses and no later one can go on with. `starting`: however old, it may be gone on with."""
    # In this order: what is begun after the look at the directories has a row by the time rows are read, and whatever
    # works on a file now is in `context.files`, which is asked last, with nothing awaited between that and the deletion.
    if starting:
        for tier in context.tiers.values():
            for name in os.listdir(os.path.join(tier.path, "staging")):
                if name.startswith(_PLAIN):
                    _unlink(tier.staged(name))
    staged = _staged(context)
    keys = await context.catalog.journal.keys()
    running = {operation.id for operation in await context.catalog.operations.list(running=True, limit=1000)}
    begun = {_number(key.removeprefix("down/")): key for key in keys if key.startswith("down/")}
    rows = await context.catalog.files.by_ids(list({one.file for one in staged} | {file for file, _ in begun}))
    for one in staged:
        kept = (one.file, one.generation) in begun and _wanted(rows.get(one.file), one.generation)
        if one.file not in context.files and not (kept and (starting or running or _fresh(context, one.path))):
            _unlink(one.path)
            if kept:
                await context.catalog.journal.forget(begun[one.file, one.generation])
    for (file, generation), key in begun.items():
        if file not in context.files and not _wanted(rows.get(file), generation):
            await context.catalog.journal.forget(key)
    for key in keys:
        if key.startswith("restore/") and int(key.split("/")[1]) not in running:
            await context.catalog.journal.forget(key)


def _number(text: str) -> tuple[int, int]:
    file, _, generation = text.partition("/")
    return int(file), int(generation)


def _wanted(row: FileRow | None, generation: int) -> bool:
    return row is not None and row.generation == generation and row.local() is None


def _fresh(context: Context, path: str) -> bool:
    try:
        return context.clock() - os.stat(path).st_mtime < _KEPT_S
    except FileNotFoundError:
        return False


def _staged(context: Context) -> list[_Staged]:
    found = []
    for tier in context.tiers.values():
        for name in os.listdir(os.path.join(tier.path, "staging")):
            file, _, generation = name.partition("-")
            if file.isdecimal() and generation.isdecimal():
                found.append(_Staged(tier.staged(name), int(file), int(generation)))
    return found


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("staged.kept", path=path, error=str(error))
    else:
        log.info("staged.removed", path=path)
