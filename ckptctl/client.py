"""HTTP over the daemon's Unix socket, with the standard library only.

The supervisor holds the listening socket, so while a worker is replaced callers queue in it and requests that were
under way are cut. GETs and streams are therefore repeated for a while; anything that may have begun is not.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from ckptd.domain.errors import BY_CODE, CkptdError, DaemonUnreachable, NotAllowed

PATIENCE_S = 10.0
"""How long a daemon that was there may be away."""
ANSWER_S = 60.0
"""How long it may think about one request."""
CROWD_S = 10.0
"""How long a place among those who wait for the daemon is waited for."""
_UCRED = struct.Struct("iII")
HEARTBEATS_MISSED_S = 30.0
"""A stream says something every five seconds."""


class Cut(Exception):
    """The connection ended before the answer did."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        deadline = time.monotonic() + CROWD_S
        while True:
            try:
                self.sock.connect(self.path)
            except BlockingIOError:  # so many are waiting to be taken in that the kernel takes no more: unix(7)
                if time.monotonic() > deadline:
                    self.sock.close()
                    raise
                time.sleep(0.01)
            except OSError:
                self.sock.close()
                raise
            else:
                return


@dataclass(slots=True)
class Client:
    socket_path: str
    patience_s: float = PATIENCE_S
    answer_s: float = ANSWER_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    met: bool = False
    """It answered once: from then on its absence is a restart, before it is an answer."""

    def get(self, path: str, **query: object) -> Any:
        deadline = self.clock() + self.patience_s
        while True:
            try:
                return self._ask("GET", path + _query(query), None)
            except Cut as cut:
                self._again(deadline, cut)

    def send(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """POST, PUT, DELETE: once. DaemonUnreachable where it may or may not have begun says so."""
        try:
            return self._ask(method, path + _query(query), body)
        except Cut as cut:
            raise DaemonUnreachable(
                f"the daemon went away before it answered ({cut})",
                hint="it may have begun all the same: see ckptctl ops and ckptctl events",
            ) from cut

    def stream(self, path: str, ends: Callable[[Any], bool], **query: object) -> Iterator[Any]:
        """The data of server-sent events, up to the one that `ends` the stream. Taken up again, after the last seen id,
        when the daemon was away: a stream that merely stops was cut.
        """
        last_id, deadline = "", self.clock() + self.patience_s
        while True:
            try:
                for kind, identifier, data in self._events(path + _query(query), last_id):
                    deadline = 0.0
                    if kind == "error":
                        raise error_from(data)
                    if kind:
                        last_id = identifier or last_id
                        yield data
                        if ends(data):
                            return
                cut = Cut("the stream stopped")
            except Cut as error:
                cut = error
            deadline = deadline or self.clock() + self.patience_s
            self._again(deadline, cut)

    def _again(self, deadline: float, cut: Cut) -> None:
        """Sleeps before the next try, or gives up."""
        if self.clock() >= deadline:
            raise DaemonUnreachable(
                f"the daemon on {self.socket_path} went away and did not come back ({cut})",
                hint="see its log, or start it: ckptctl up",
            ) from cut
        self.sleep(0.1)

    def _ask(self, method: str, target: str, body: object) -> Any:
        connection = self._connect(self.answer_s)
        try:
            response = self._request(connection, method, target, body, {})
            try:
                payload = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise Cut(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise error_from(_decoded(payload))
        kind = response.headers.get_content_type()
        return _decoded(payload) if kind == "application/json" else payload

    def _events(self, target: str, last_id: str) -> Iterator[tuple[str, str, Any]]:
        connection = self._connect(HEARTBEATS_MISSED_S)
        try:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            response = self._request(connection, "GET", target, None, headers)
            if response.status >= 400:
                raise error_from(_decoded(response.read()))
            yield "", "", None
            yield from _parsed(response)
        finally:
            connection.close()

    def _request(
        self, connection: http.client.HTTPConnection, method: str, target: str, body: object, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        payload = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, target, payload, {"Content-Type": "application/json", **headers})
            return connection.getresponse()
        except TimeoutError as error:
            raise DaemonUnreachable(
                f"the daemon on {self.socket_path} is there but does not answer",
                hint="its worker may be starting again and again: see its log",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Cut(str(error) or type(error).__name__) from error

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        connection = _UnixConnection(self.socket_path, timeout)
        try:
            connection.connect()
            _require_trusted(connection.sock, self.socket_path)
        except PermissionError as error:
            raise NotAllowed(
                f"you may not open the daemon's socket {self.socket_path}",
                hint="its group and mode say who may; ask whoever runs the node",
            ) from error
        except OSError as error:
            if self.met:
                raise Cut(error.strerror or str(error)) from error
            raise DaemonUnreachable(
                f"no daemon answers on {self.socket_path} ({error.strerror or error})", hint="start it: ckptctl up"
            ) from error
        self.met = True
        return connection


def _require_trusted(connection: socket.socket, path: str) -> None:
    """Root's daemon, or one's own: what it answers becomes a path that a job resumes from. Raises NotAllowed for anybody else's,
    e.g. one that waits in /tmp for root to ask.
    """
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid not in {0, os.geteuid()}:
        connection.close()
        raise NotAllowed(
            f"the daemon on {path} is user {uid}'s",
            hint=f"ask it as that user: setpriv --reuid={uid} --clear-groups ckptctl …",
        )


def error_from(answer: Any) -> CkptdError:
    """The error an answer carries, as the class it had in the daemon."""
    detail = answer.get("error", {}) if isinstance(answer, dict) else {}
    kind = BY_CODE.get(detail.get("code", ""), CkptdError)
    error = kind(detail.get("message", "the daemon gave an answer that makes no sense"), hint=detail.get("hint", ""))
    if "exit_code" in detail:
        error.exit_code = detail["exit_code"]
    return error


def part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def _query(query: dict[str, object]) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _decoded(payload: bytes) -> Any:
    try:
        return json.loads(payload) if payload else None
    except ValueError as error:
        raise CkptdError(f"the daemon's answer is not JSON: {payload[:100]!r}") from error


def _parsed(response: http.client.HTTPResponse) -> Iterator[tuple[str, str, Any]]:
    """Event, id and data of each message; an empty event for a heartbeat.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream, as far as we send it.
    """
    fields: dict[str, str] = {}
    while True:
        try:
            line = response.readline()
        except (OSError, http.client.HTTPException) as error:
            raise Cut(str(error) or type(error).__name__) from error
        if not line.endswith(b"\n"):
            return
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
            continue
        if "data" in fields:
            yield fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"])
        elif value:
            yield "", "", None
        fields = {}
