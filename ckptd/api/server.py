"""The HTTP server: authorises, validates, calls, and turns whatever comes back into JSON."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from ckptd.api import sse
from ckptd.api.calls import Call
from ckptd.api.gate import Gate
from ckptd.api.guard import guarded
from ckptd.api.node import Node
from ckptd.api.openapi import document
from ckptd.api.peers import Authorise
from ckptd.api.routes import ROUTES, Route
from ckptd.api.schemas import error_body
from ckptd.domain.errors import CkptdError, NotKnown, UsageError

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LONGEST_URL = 32 * 1024
"""Bytes. A run's name has up to 255 bytes; as a key, percent-encoded twice, each can take 12."""

GATE: web.AppKey[list[Gate]] = web.AppKey("gate", list)
"""The one through which connections come, once it serves."""

BODY_S = 20.0
"""How long a request's body may take to come."""

HEARTBEAT_S = 5.0
"""How long a reader that left may go unnoticed."""


class InvalidRequest(UsageError):
    """Well-formed, but not what the schema asks for."""

    http_status = 422


def application(node: Node, authorise: Authorise, *, heartbeat_s: float = HEARTBEAT_S) -> web.Application:
    """`authorise` says who calls or raises NotAllowed; on the daemon's socket it is `peers.peer_of`."""
    app = web.Application(middlewares=[_counted, _errors_as_json])
    app[sse.STREAMS] = set()
    app[GATE] = []
    app.on_shutdown.append(sse.end_streams)
    for route in ROUTES:
        responder = _Responder(route, node, authorise, heartbeat_s)
        app.router.add_route(route.method, route.path, responder.respond)

    async def openapi(request: web.Request) -> web.StreamResponse:
        authorise(request)
        return web.Response(body=_described(), content_type="application/json")

    app.router.add_get("/v1/openapi.json", openapi)
    return app


@dataclass(frozen=True)
class Served:
    """A server that serves."""

    runner: web.AppRunner
    gate: asyncio.Task[None]

    async def end(self) -> None:
        self.gate.cancel()
        await asyncio.wait([self.gate])
        await self.runner.cleanup()


async def serve(app: web.Application, listening: socket.socket) -> Served:
    """Serves on a socket that is bound already (the supervisor's) until `end()` of what is returned."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, max_line_size=LONGEST_URL)
    await runner.setup()
    assert runner.server is not None
    gate = Gate(listening, runner.server)
    app[GATE].append(gate)
    return Served(runner, asyncio.create_task(gate.run(), name="gate"))


@dataclass(frozen=True)
class _Responder:
    route: Route
    node: Node
    authorise: Authorise
    heartbeat_s: float

    async def respond(self, request: web.Request) -> web.StreamResponse:
        caller = self.authorise(request)
        call: Call[Any, Any] = Call(
            caller=caller,
            path=dict(self.route.parameters.model_validate(dict(request.match_info))),
            query=self.route.query.model_validate(_query(request)),
            body=await self._body(request),
            last_event_id=_last_event_id(request),
        )
        return await self._answer(request, await self.route.call(guarded(self.node, caller), call))

    async def _body(self, request: web.Request) -> Any:
        if self.route.body is None:
            return None
        try:
            async with asyncio.timeout(BODY_S):
                body = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        return _adapter(self.route.body).validate_json(body, strict=True)

    async def _answer(self, request: web.Request, value: object) -> web.StreamResponse:
        if isinstance(value, sse.Stream):
            return await sse.respond(request, value, self.heartbeat_s)
        if self.route.response is None:
            return web.Response(status=self.route.status)
        if self.route.response is bytes:
            return web.Response(
                body=cast("bytes", value), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
            )
        adapter = _adapter(self.route.response)
        body = adapter.dump_json(adapter.validate_python(value, from_attributes=True))
        return web.Response(body=body, status=self.route.status, content_type="application/json")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@functools.cache
def _described() -> bytes:
    """When it is asked for: making it takes a tenth of a second, which no start should."""
    return json.dumps(document()).encode()


def _query(request: web.Request) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise InvalidRequest(f"'{name}' is given twice")
        given[name] = value
    return given


def _last_event_id(request: web.Request) -> int | None:
    """Sent by a reader that comes back; anything else than one of our ids is ignored."""
    text = request.headers.get("Last-Event-ID", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


@web.middleware
async def _counted(request: web.Request, handler: Handler) -> web.StreamResponse:
    with contextlib.ExitStack() as stack:
        for gate in request.app[GATE]:
            stack.enter_context(gate.answering(request.transport))
        return await handler(request)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except CkptdError as error:
        return _failure(error)
    except ValidationError as error:
        return _failure(_explained(error))
    except web.HTTPException as error:
        return _refused(request, error)
    except (ConnectionResetError, BrokenPipeError):
        raise
    except Exception as error:
        log.exception("api.failed", method=request.method, path=request.path)
        unexpected = CkptdError(
            f"the daemon failed to answer: {type(error).__name__}: {error}",
            hint="this is a bug; please report it with the daemon's log",
        )
        return _failure(unexpected)


def _failure(error: CkptdError) -> web.Response:
    body = error_body(error).model_dump_json()
    return web.Response(text=body, status=error.http_status, content_type="application/json")


def _explained(error: ValidationError) -> UsageError:
    """The first complaint; a malformed document is 400, a well-formed wrong one 422."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    what = str(first["msg"]).removeprefix("Value error, ")
    message = f"{where}: {what}" if where else what
    kind = UsageError if first["type"] == "json_invalid" else InvalidRequest
    return kind(message, hint="the document at /v1/openapi.json says what is accepted")


def _refused(request: web.Request, error: web.HTTPException) -> web.Response:
    """Refusals of aiohttp itself: no such path, method not allowed, body too large."""
    wrapped: CkptdError
    if error.status == 404:
        wrapped = NotKnown(f"no such path: {request.path}", hint="is ckptctl newer than the daemon it talks to?")
    else:
        wrapped = UsageError(f"{error.reason}: {request.method} {request.path}")
    answer = _failure(wrapped)
    answer.set_status(error.status)
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer
