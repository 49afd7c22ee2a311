"""What users asked for and what happened: pins, policies, operations, events, facts."""

from __future__ import annotations

import json
import os
from typing import Any

from ckptd.catalog.database import Database
from ckptd.catalog.rows import PinRow
from ckptd.domain.model import EventRecord, Operation, OperationKind, OperationState, Place
from ckptd.domain.names import key_of, path_of

_KEEP_EVENTS = 10_000
_KEEP_OPERATIONS = 1_000
_KEEP_OPERATIONS_OF_ONE = 250
"""User's."""


def _clean(message: str) -> str:
    """SQLite's text is UTF-8; messages may quote file names that are not."""
    return message.encode("utf-8", "backslashreplace").decode()


class Wishes:
    """Pins and policies."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def pins(self) -> list[PinRow]:
        rows = await self._db.read("SELECT volume, run, step, tier, until, uid FROM pins")
        return [PinRow(volume, os.fsdecode(run), step, Place(tier), *rest) for volume, run, step, tier, *rest in rows]

    async def pin(self, pin: PinRow) -> None:
        """A pin without end is never shortened by a prefetch's time to live. It counts for whoever wants it last."""
        await self._db.write(
            "INSERT INTO pins VALUES (?,?,?,?,?,?) ON CONFLICT (volume, run, step) DO UPDATE SET tier = excluded.tier,"
            " until = CASE WHEN pins.until IS NULL OR excluded.until IS NULL THEN NULL"
            " ELSE max(pins.until, excluded.until) END, uid = excluded.uid",
            (pin.volume, os.fsencode(pin.run), pin.step, pin.tier, pin.until, pin.uid),
        )

    async def unpin(self, volume: str, run: str, step: int, *, temporary: bool = False) -> None:
        """`temporary`: only if it has an end."""
        await self._db.write(
            "DELETE FROM pins WHERE volume = ? AND run = ? AND step = ? AND (? = 0 OR until IS NOT NULL)",
            (volume, os.fsencode(run), step, temporary),
        )

    async def expire_pins(self, now: float) -> None:
        await self._db.write("DELETE FROM pins WHERE until IS NOT NULL AND until <= ?", (now,))

    async def policies(self, volume: str) -> dict[str, dict[str, str]]:
        """Settings by pattern."""
        return {pattern: settings for pattern, (settings, _) in (await self.owned_policies(volume)).items()}

    async def owned_policies(self, volume: str) -> dict[str, tuple[dict[str, str], int | None]]:
        """Settings by pattern, and whose the run was when a user set them; None: an administrator did."""
        rows = await self._db.read(
            "SELECT pattern, settings, owner FROM policies WHERE volume = ? ORDER BY pattern", (volume,)
        )
        return {pattern: (json.loads(settings), owner) for pattern, settings, owner in rows}

    async def policies_by(self, volume: str, uid: int) -> set[str]:
        """The patterns that this user was the first to set."""
        rows = await self._db.read("SELECT pattern FROM policies WHERE volume = ? AND uid = ?", (volume, uid))
        return {pattern for (pattern,) in rows}

    async def set_policy(
        self, volume: str, pattern: str, settings: dict[str, str], uid: int | None = None, owner: int | None = None,
        *, afresh: bool = False,
    ) -> dict[str, str]:  # fmt: skip
        """Adds to what is set for the pattern; returns all of it. `owner`: of the run that is meant, where a user sets it.
        `afresh`: what is set does not count any more, and goes.
        """
        async with self._db.transaction():
            before = {} if afresh else (await self.policies(volume)).get(pattern, {})
            merged = before | settings
            await self._db.write(
                "INSERT INTO policies VALUES (?,?,?,?,?)"
                " ON CONFLICT (volume, pattern) DO UPDATE SET settings = excluded.settings, owner = excluded.owner",
                (volume, pattern, json.dumps(merged), uid, owner),
            )
            return merged

    async def unset_policy(self, volume: str, pattern: str) -> bool:
        """Whether there was something to unset."""
        async with self._db.transaction():
            known = pattern in await self.policies(volume)
            await self._db.write("DELETE FROM policies WHERE volume = ? AND pattern = ?", (volume, pattern))
            return known


class Operations:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def begin(self, operation: Operation) -> int:
        o = operation
        await self._db.write(
            "DELETE FROM operations WHERE id <= (SELECT max(id) FROM operations) - ? AND state <> 'running'",
            (_KEEP_OPERATIONS,),
        )
        await self._db.write(  # one user's do not push out all of the others'
            "DELETE FROM operations WHERE uid = ?1 AND state <> 'running' AND id <="
            " (SELECT id FROM operations WHERE uid = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (o.uid, _KEEP_OPERATIONS_OF_ONE),
        )
        return await self._db.write(
            "INSERT INTO operations (kind, volume, target, arguments, uid, state, bytes_total, bytes_done, started_at)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            (
                o.kind,
                o.volume,
                key_of(o.target),
                json.dumps(o.arguments),
                o.uid,
                o.state,
                o.bytes_total,
                o.bytes_done,
                o.started_at,
            ),
        )

    async def update(self, operation: Operation) -> None:
        o = operation
        await self._db.write(
            "UPDATE operations SET state = ?, bytes_total = ?, bytes_done = ?, bytes_before = ?, finished_at = ?, error = ?,"
            " error_code = ?, hint = ?, result = ? WHERE id = ?",
            (
                o.state,
                o.bytes_total,
                o.bytes_done,
                o.bytes_before,
                o.finished_at,
                None if o.error is None else _clean(o.error),
                o.error_code,
                _clean(o.hint),
                None if o.result is None else _clean(o.result),
                o.id,
            ),
        )

    async def list(self, *, running: bool = False, limit: int = 50) -> list[Operation]:
        rows = await self._db.read(
            "SELECT id, kind, volume, target, arguments, state, bytes_total, bytes_done, started_at, finished_at, error,"
            " error_code, hint, result, bytes_before, uid FROM operations WHERE ? = 0 OR state = 'running'"
            " ORDER BY id DESC LIMIT ?",
            (running, limit),
        )
        return [_operation(row) for row in rows]

    async def get(self, id_: int) -> Operation | None:
        rows = await self._db.read(
            "SELECT id, kind, volume, target, arguments, state, bytes_total, bytes_done, started_at, finished_at, error,"
            " error_code, hint, result, bytes_before, uid FROM operations WHERE id = ?",
            (id_,),
        )
        return _operation(rows[0]) if rows else None


def _operation(row: tuple[Any, ...]) -> Operation:
    (id_, kind, volume, target, arguments, state, total, done, started, finished, error, code, hint, result, before,
     uid) = row  # fmt: skip
    return Operation(
        id_, OperationKind(kind), path_of(target), volume, OperationState(state), total, done, started, finished, error, code,
        hint, result, json.loads(arguments), before, uid,
    )  # fmt: skip


class Events:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(self, at: float, level: str, event: str, message: str, fields: dict[str, str]) -> EventRecord:
        id_ = await self._db.write(
            "INSERT INTO events (at, level, event, message, fields) VALUES (?,?,?,?,?)",
            (at, level, event, _clean(message), json.dumps(fields)),
        )
        if id_ % 1000 == 0:
            await self._db.write("DELETE FROM events WHERE id <= ?", (id_ - _KEEP_EVENTS,))
        return EventRecord(id_, at, level, event, message, fields)

    async def since(self, after: int, limit: int) -> list[EventRecord]:
        """The newest `limit` of those after id `after`, newest last."""
        rows = await self._db.read(
            "SELECT id, at, level, event, message, fields FROM events WHERE id > ? ORDER BY id DESC LIMIT ?",
            (after, limit),
        )
        return [_event(row) for row in reversed(rows)]

    async def trouble(self, since: float, limit: int = 5) -> list[EventRecord]:
        rows = await self._db.read(
            "SELECT id, at, level, event, message, fields FROM events WHERE level <> 'info' AND at >= ?"
            " ORDER BY id DESC LIMIT ?",
            (since, limit),
        )
        return [_event(row) for row in reversed(rows)]


def _event(row: tuple[Any, ...]) -> EventRecord:
    id_, at, level, event, message, fields = row
    return EventRecord(id_, at, level, event, message, json.loads(fields))


class Facts:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def get(self, name: str) -> str | None:
        rows = await self._db.read("SELECT value FROM facts WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    async def set(self, name: str, value: str) -> None:
        await self._db.write("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
