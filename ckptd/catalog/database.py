"""The SQLite connection: opening it safely, and transactions.

One connection, one thread (aiosqlite's), and one lock: whoever is inside `transaction()` is alone with the catalog; a plain
read or write outside of one waits for it. A task must not start another task inside a transaction and wait for it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import aiosqlite
import structlog

from ckptd.catalog.migrations import STEPS, VERSION, schema
from ckptd.domain.errors import StateUnusable

log = structlog.get_logger()

_inside: ContextVar[bool] = ContextVar("inside_transaction", default=False)


class Database:
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All or nothing. Nested use joins the outer transaction."""
        if _inside.get():
            yield
            return
        async with self._lock:
            token = _inside.set(True)
            try:
                with _usable():
                    try:
                        # Inside, because a cancelled BEGIN is carried out all the same.
                        await self._connection.execute("BEGIN IMMEDIATE")
                        yield
                    except BaseException:
                        await asyncio.shield(self._connection.rollback())
                        raise
                    await asyncio.shield(self._connection.commit())
            finally:
                _inside.reset(token)

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Nobody else reads or writes meanwhile. Yields whether what is read is committed (no transaction is under way)."""
        if _inside.get():
            yield False
            return
        async with self._lock:
            token = _inside.set(True)
            try:
                yield True
            finally:
                _inside.reset(token)

    async def read(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if _inside.get():
            return list(await self._connection.execute_fetchall(sql, arguments))  # type: ignore[arg-type]  # rows are tuples
        async with self._lock:
            return list(await self._connection.execute_fetchall(sql, arguments))  # type: ignore[arg-type]  # rows are tuples

    async def write(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Returns the new row's id of an INSERT."""
        async with self.transaction():
            cursor = await self._connection.execute(sql, arguments)
            return cursor.lastrowid or 0

    async def write_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        async with self.transaction():
            await self._connection.executemany(sql, rows)

    async def close(self) -> None:
        await self._connection.close()


@contextlib.contextmanager
def _usable() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StateUnusable(
            f"the catalog cannot be written: {error}", hint="free space on the disk of the state directory (state_dir)"
        ) from error


async def open_database(path: Path) -> tuple[Database, str | None]:
    """Opens or makes the catalog at `path`.

    Returns it and, where a corrupt one was found and moved aside, the name of the file that keeps it (the caller
    rebuilds). Raises StateUnusable for a full disk, a directory that cannot be written, or a newer schema.
    """
    kept = None
    try:
        if not await asyncio.to_thread(_sound, path):
            kept = _set_aside(path)
            log.error("catalog.corrupt", kept_as=kept)
        return Database(await _connect(path)), kept
    except sqlite3.OperationalError as error:
        raise StateUnusable(
            f"the catalog {path} cannot be opened: {error}",
            hint="free space on that disk, or make the state directory writable (state_dir)",
        ) from error


def _sound(path: Path) -> bool:
    """Whether there is no catalog yet, or a whole one. Raises sqlite3.OperationalError for a place that cannot be used.

    Plain sqlite3, in a thread: a connection of aiosqlite that fails to open leaves a thread behind that may still answer
    when its event loop is closed.
    """
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            row = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False
        return row is not None and row[0] == "ok"


def _set_aside(path: Path) -> str:
    kept = f"{path}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}"
    os.replace(path, kept)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{kept}{suffix}")
    return kept


async def _connect(path: Path) -> aiosqlite.Connection:
    # It names everybody's runs. SQLite gives the files that it makes beside it the mode of this one.
    with contextlib.suppress(OSError):  # a place that cannot be used SQLite complains about
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        os.chmod(path, 0o600)
    connection = await aiosqlite.connect(path, isolation_level=None)
    try:
        # NORMAL: safe against a kill at any moment; a power loss may cost the last transactions, which a scan finds again.
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "busy_timeout = 5000"):
            await connection.execute(f"PRAGMA {pragma}")
        await _migrate(connection, path)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _migrate(connection: aiosqlite.Connection, path: Path) -> None:
    async with connection.execute("PRAGMA user_version") as cursor:
        row = await cursor.fetchone()
    version = row[0] if row else 0
    if version > VERSION:
        raise StateUnusable(
            f"the catalog {path} has schema version {version}; this ckptd knows up to {VERSION}",
            hint="run the ckptd that wrote it, or name another --state-dir",
        )
    script = schema() if version == 0 else "".join(STEPS[step] for step in range(version, VERSION))
    if version != VERSION:
        await connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {VERSION};\nCOMMIT;")
