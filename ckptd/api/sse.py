"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

A stream ends when its source does (an operation after its final state) or when the daemon stops. Comments keep it
alive in between and find out, at the latest after one of them, that the reader is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from ckptd.api.schemas import error_body
from ckptd.domain.errors import CkptdError

STREAMS: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("streams", set)
"""The tasks that serve a stream now; stopping the server cancels them."""

_GONE = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


@dataclass(frozen=True, slots=True)
class Message:
    event: str
    data: str
    """One line of JSON."""
    id: int | None = None

    def encode(self) -> bytes:
        head = f"id: {self.id}\n" if self.id is not None else ""
        return f"{head}event: {self.event}\ndata: {self.data}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Stream:
    """What a handler returns instead of a body."""

    messages: AsyncIterator[Message]


async def respond(request: web.Request, stream: Stream, heartbeat_s: float) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    task = asyncio.current_task()
    assert task is not None
    streams = request.app[STREAMS]
    streams.add(task)
    try:
        try:
            await _pump(response, stream.messages, heartbeat_s)
        except CkptdError as error:  # the status line has gone out: the stream itself must say it
            await response.write(Message("error", error_body(error).model_dump_json()).encode())
        await response.write_eof()
    except _GONE:
        pass  # the reader has left; nobody to tell
    finally:
        streams.discard(task)
    return response


async def _pump(response: web.StreamResponse, messages: AsyncIterator[Message], heartbeat_s: float) -> None:
    """One `anext` lives across heartbeats: cancelling it to look at the clock would end the generator."""
    following: asyncio.Task[Message | None] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(_next_of(messages))
            done, _ = await asyncio.wait({following}, timeout=heartbeat_s)
            if not done:
                await response.write(b": still here\n\n")
                continue
            message, following = following.result(), None
            if message is None:
                return
            await response.write(message.encode())
    finally:
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
        if isinstance(messages, AsyncGenerator):
            await messages.aclose()


async def _next_of(messages: AsyncIterator[Message]) -> Message | None:
    """None at the end."""
    return await anext(messages, None)


async def end_streams(app: web.Application) -> None:
    """On shutdown: a follower that never ends must not hold the daemon."""
    tasks = app[STREAMS].copy()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=2)
