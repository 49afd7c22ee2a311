"""A proxy in front of the S3 server that misbehaves on command, on the wire, where real networks and stores do.

    with FaultProxy(server.port) as proxy:
        proxy.inject(Fault("PUT", answer=503, code="SlowDown", retry_after=1), times=2)
        proxy.inject(Fault("PUT", r"partNumber=2", reset_after=100_000))

Each fault is used up by the requests it matches, in order; a request meets at most one. `proxy.seen` lists every
request (method, path with query), `proxy.finished` those whose answer was handed on, `proxy.ranges` the stretches that
were asked for. `proxy.down()` is a server that stopped, until `heal()`. Otherwise it relays HTTP/1.1 byte for byte, so
signatures and checksums stay the client's own.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_CHUNK = 64 << 10


@dataclass(frozen=True)
class Fault:
    """What to do to a request. Offsets count bytes of the body. Several may be combined (a delay and a reset…)."""

    method: str = ""
    """Empty: any."""
    path: str = ""
    """Regular expression, searched in the path with its query."""
    delay: float = 0.0
    """Seconds before anything is done with the request."""
    answer: int = 0
    """HTTP status to answer instead of the server, which never sees the request."""
    code: str = "InternalError"
    """S3's error code in that answer."""
    body: str = ""
    """The whole body of that answer, instead of an <Error>."""
    headers: tuple[tuple[str, str], ...] = ()
    """More headers of it."""
    retry_after: int | None = None
    reset_after: int | None = None
    """Reset both connections once that many bytes of the request's body have passed."""
    stall_after: int | None = None
    """Pass nothing more of the request's body after that many bytes, for `stall` seconds; then go on."""
    corrupt_at: int | None = None
    """Flip a bit of that byte of the request's body."""
    reset_answer_after: int | None = None
    """Reset the client's connection once that many bytes of the answer's body have passed. 0: it never hears of it,
    while the server did it."""
    stall_answer_after: int | None = None
    corrupt_answer_at: int | None = None
    cut_answer_after: int | None = None
    """Close the client's connection in good order in the middle of the answer's body."""
    stall: float = 3600.0


class _HangUp(Exception):
    """Both connections are to be closed."""


@dataclass
class _Armed:
    fault: Fault
    left: int


@dataclass
class FaultProxy:
    upstream_port: int
    bandwidth: int = 0
    """Bytes a second for each direction of each connection; 0: no limit."""
    refuse: bool = False
    """While True connections are closed at once: the store is down."""
    certificate: tuple[str, str] | None = None
    """Files of a certificate and its key: then clients come by TLS."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    finished: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[tuple[str, str]] = field(default_factory=list)
    """Path and Range of each request that has one."""
    expired: set[str] = field(default_factory=set)
    """Access keys that are refused with ExpiredToken."""
    region: str = ""
    """What is signed for another one is refused as AWS does, which names this one."""
    connections: int = 0
    body_bytes: int = 0
    """Bytes of request bodies that have passed."""

    def __post_init__(self) -> None:
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    def inject(self, fault: Fault, times: int = 1) -> None:
        with self._lock:
            self._armed.append(_Armed(fault, times))

    def heal(self) -> None:
        with self._lock:
            self._armed.clear()
        self.refuse = False

    def down(self) -> None:
        """The store stops: nothing is answered any more, what is under way is cut."""
        self.refuse = True
        with self._lock:
            for each in self._open:
                _shut(each)

    @property
    def unused(self) -> int:
        """Faults still armed: a test that injects and never meets one proves nothing."""
        return sum(armed.left for armed in self._armed)

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stopping.set()
        # Closing alone does not wake a thread in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                _shut(each)
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                _reset(client)
                continue
            self.connections += 1
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            try:
                client = context.wrap_socket(client, server_side=True)
            except OSError:
                return  # the client does not trust us
        upstream = socket.create_connection(("127.0.0.1", self.upstream_port))
        for each in (client, upstream):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, upstream}
        try:
            conversation = _Conversation(self, _Stream(client), _Stream(upstream))
            while conversation.exchange():
                pass
        except (OSError, _HangUp, ValueError):
            pass  # one side went away, by itself or by a fault
        finally:
            with self._lock:
                self._open -= {client, upstream}
            upstream.close()
            client.close()

    def take(self, method: str, path: str) -> Fault:
        with self._lock:
            self.seen.append((method, path))
            for armed in self._armed:
                fault = armed.fault
                if armed.left and fault.method in {"", method} and re.search(fault.path, path):
                    armed.left -= 1
                    return fault
        return Fault()

    def wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise _HangUp


class _Stream:
    """A socket read by lines and by lengths."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._file = sock.makefile("rb")

    def head(self) -> tuple[bytes, list[str], dict[str, str]]:
        """The raw head, its first line's words, its headers with lower-case names. ValueError at the end."""
        raw = line = self._file.readline()
        first = line.decode("latin-1").split(" ", 2)
        if len(first) < 2:
            raise ValueError("closed")
        headers = {}
        while (line := self._file.readline()) not in {b"\r\n", b""}:
            raw += line
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return raw + b"\r\n", first, headers

    def line(self) -> bytes:
        return self._file.readline()

    def some(self, most: int) -> bytes:
        data = self._file.read1(min(most, _CHUNK))
        if not data:
            raise ValueError("closed")
        return data


class _Conversation:
    """Requests and answers of one client connection, one after another."""

    def __init__(self, proxy: FaultProxy, client: _Stream, server: _Stream) -> None:
        self._proxy, self._client, self._server = proxy, client, server

    def exchange(self) -> bool:
        """One request and its answer; whether the connection stays open."""
        raw, (method, path, _), headers = self._client.head()
        if self._proxy.refuse:
            _reset(self._client.socket)
            return False
        fault = self._proxy.take(method, path)
        if "range" in headers:
            self._proxy.ranges.append((path, headers["range"]))
        if any(f"Credential={key}/" in headers.get("authorization", "") for key in self._proxy.expired):
            fault = Fault(answer=400, code="ExpiredToken")
        if self._proxy.region and f"/{self._proxy.region}/s3/aws4_request" not in headers.get("authorization", ""):
            code, region = "AuthorizationHeaderMalformed", self._proxy.region
            fault = Fault(answer=400, body=f"<Error><Code>{code}</Code><Region>{region}</Region></Error>")
        if fault.delay:
            self._proxy.wait(fault.delay)
        length = int(headers.get("content-length", 0))
        if fault.answer:
            self._answer(fault, method)
            return False
        self._server.socket.sendall(raw)
        if length and headers.get("expect", "").lower() == "100-continue":
            interim, first, answer_headers = self._server.head()
            self._client.socket.sendall(interim)
            if first[1] != "100":  # refused before the body came
                self._relay(answer_headers, method, first[1], fault)
                return False
        self._send_body(length, fault)
        stays = self._relay_answer(method, fault)
        self._proxy.finished.append((method, path))
        return stays

    def _answer(self, fault: Fault, method: str) -> None:
        """Answers at once and closes, without the body having been read, like an overloaded front end."""
        body = fault.body or f"<Error><Code>{fault.code}</Code><Message>injected</Message></Error>"
        lines = [f"HTTP/1.1 {fault.answer} Injected", f"Content-Length: {len(body)}", "Content-Type: application/xml"]
        lines += ["Connection: close", *(f"{name}: {value}" for name, value in fault.headers)]
        if fault.retry_after is not None:
            lines.append(f"Retry-After: {fault.retry_after}")
        self._client.socket.sendall("\r\n".join([*lines, "", "" if method == "HEAD" else body]).encode())
        self._client.socket.shutdown(socket.SHUT_WR)
        # What is still on its way is read off, or the client would meet a reset before it sees the answer.
        self._client.socket.settimeout(1)
        while self._client.socket.recv(_CHUNK):
            pass

    def _send_body(self, length: int, fault: Fault) -> None:
        done = 0
        while done < length:
            stops = [n for n in (fault.reset_after, fault.stall_after) if n is not None and n > done]
            data = self._client.some(min([length, *stops]) - done)
            data = _flipped(data, done, fault.corrupt_at)
            self._pace(len(data))
            self._server.socket.sendall(data)
            done += len(data)
            self._proxy.body_bytes += len(data)
            if done == fault.reset_after:
                _reset(self._client.socket)
                raise _HangUp
            if done == fault.stall_after:
                self._proxy.wait(fault.stall)

    def _relay_answer(self, method: str, fault: Fault) -> bool:
        raw, first, headers = self._server.head()
        if fault.reset_answer_after == 0:
            _reset(self._client.socket)
            raise _HangUp
        self._client.socket.sendall(raw)
        self._relay(headers, method, first[1], fault)
        return headers.get("connection", "").lower() != "close"

    def _relay(self, headers: dict[str, str], method: str, status: str, fault: Fault) -> None:
        if method == "HEAD" or status in {"204", "304"}:
            return
        if headers.get("transfer-encoding", "").lower() == "chunked":
            self._relay_chunked()
        else:
            self._relay_body(int(headers.get("content-length", 0)), fault)

    def _relay_body(self, length: int, fault: Fault) -> None:
        done = 0
        stops = (fault.reset_answer_after, fault.stall_answer_after, fault.cut_answer_after)
        while done < length:
            data = self._server.some(min([length, *(n for n in stops if n is not None and n > done)]) - done)
            data = _flipped(data, done, fault.corrupt_answer_at)
            self._pace(len(data))
            self._client.socket.sendall(data)
            done += len(data)
            if done == fault.stall_answer_after:
                self._proxy.wait(fault.stall)
            if done == fault.reset_answer_after:
                _reset(self._client.socket)
                raise _HangUp
            if done == fault.cut_answer_after:
                raise _HangUp

    def _relay_chunked(self) -> None:
        while True:
            size_line = self._server.line()
            size = int(size_line.split(b";")[0], 16)
            self._client.socket.sendall(size_line)
            left = size
            while left:
                data = self._server.some(left)
                self._client.socket.sendall(data)
                left -= len(data)
            end = self._server.line()
            self._client.socket.sendall(end)
            if size == 0:
                while end not in {b"\r\n", b""}:
                    end = self._server.line()
                    self._client.socket.sendall(end)
                return

    def _pace(self, count: int) -> None:
        if self._proxy.bandwidth:
            time.sleep(count / self._proxy.bandwidth)


def _flipped(data: bytes, start: int, at: int | None) -> bytes:
    if at is None or not start <= at < start + len(data):
        return data
    changed = bytearray(data)
    changed[at - start] ^= 0x01
    return bytes(changed)


def _reset(sock: socket.socket) -> None:
    """Closes with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Not close(): that waits for the files made of it.
    os.close(sock.detach())


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        sock.shutdown(socket.SHUT_RDWR)
