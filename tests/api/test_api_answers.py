"""Who may do what, how failures look, how streams behave: over a real Unix socket, read byte by byte."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading

import pytest
from scripted_node import NOON, ScriptedNode, listen, run_server

from ckptd.api import openapi, peers, routes
from ckptd.api.peers import Caller, Peer
from ckptd.domain import errors
from ckptd.domain.model import OperationState

STRANGER = Peer(uid=12345, gid=12345, pid=1)


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "api.sock")


@pytest.fixture
def node(path):
    scripted = ScriptedNode()
    with run_server(scripted, listen(path)):
        yield scripted


@pytest.fixture
def visited(path):
    """The same, but whoever comes is somebody else."""
    scripted = ScriptedNode()
    with run_server(scripted, listen(path), lambda _request: STRANGER):
        yield scripted


def connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(path)
    return connection


def ask(path: str, method: str, target: str, body: bytes | None = None, headers: str = ""):
    """Status and decoded body."""
    payload = body or b""
    head = f"{method} {target} HTTP/1.0\r\nHost: x\r\nContent-Length: {len(payload)}\r\n{headers}\r\n".encode()
    with connect(path) as connection:
        connection.sendall(head + payload)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    top, _, content = answer.partition(b"\r\n\r\n")
    status = int(top.split()[1])
    return status, json.loads(content) if b"application/json" in top else content


def start(path: str, kind: str, **more):
    body = {"kind": kind, "target": "run-42@1200"} | more
    return ask(path, "POST", "/v1/operations", json.dumps(body).encode())


def test_the_kernel_says_who_is_there(path):
    seen = []

    def authorise(request):
        seen.append(peers.peer_of(request))
        return seen[-1]

    with run_server(ScriptedNode(), listen(path), authorise):
        assert ask(path, "GET", "/v1/status")[0] == 200
    assert seen == [Peer(os.geteuid(), os.getegid(), os.getpid())]
    assert seen[0].owner


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can come as somebody else")
def test_another_user_of_the_machine_is_a_stranger():
    """The kernel notes the effective user at `connect`."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = f"{folder}/api.sock"
        with run_server(ScriptedNode(), listen(path)):
            os.chmod(path, 0o666)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(30)
                os.seteuid(65534)
                try:
                    connection.connect(path)
                finally:
                    os.seteuid(0)
                connection.sendall(b"DELETE /v1/policies?pattern=x HTTP/1.0\r\n\r\n")
                answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 403")
    assert b"user 65534 may not unset policy" in answer


def test_a_caller_over_tcp_is_nobody():
    """The daemon's own `authorise` knows Unix sockets only."""
    scripted = ScriptedNode()
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        run_server(scripted, listening.dup(), peers.peer_of),
        socket.create_connection(listening.getsockname(), 30) as connection,
    ):
        connection.sendall(b"GET /v1/status HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 403")


def test_strangers_may_look_and_prefetch_flush_and_verify(visited, path):
    for target in ("/v1/health", "/v1/status", "/v1/runs", "/v1/runs/run-42/latest", "/v1/events", "/metrics",
                   "/v1/operations", "/v1/policies", "/v1/openapi.json"):  # fmt: skip
        assert ask(path, "GET", target)[0] == 200, target
    for kind in ("prefetch", "flush", "verify"):
        assert start(path, kind)[0] == 202, kind


def test_strangers_may_not_do_what_can_cost_somebody_a_checkpoint(visited, path):
    before = list(visited.calls)
    for kind, arguments in (("remove", {}), ("evict", {}), ("restore", {"dest": "/etc"})):
        status, answer = start(path, kind, arguments=arguments)
        assert (status, answer["error"]["code"], answer["error"]["exit_code"]) == (403, "not-allowed", 7), kind
    policy = json.dumps({"pattern": "*", "values": {"keep_hot": 1}}).encode()
    for method, target, body in (
        ("PUT", "/v1/pins", b'{"target": "run-42", "on": true}'),
        ("PUT", "/v1/policies", policy),
        ("DELETE", "/v1/policies?pattern=*", None),
        ("POST", "/v1/shutdown", b"{}"),
        ("POST", "/v1/upgrade", None),
        ("POST", "/v1/jobs/123/end", b'{"uid": 0, "runs": []}'),
        ("GET", "/v1/jobs?uid=0", None),
    ):
        assert ask(path, method, target, body)[0] == 403, target
    assert visited.calls == before
    assert visited.rows == {}
    assert not visited.stopped.is_set()


def test_strangers_may_cancel_only_what_they_started(visited, path):
    visited.hold = True
    own = start(path, "prefetch")[1]["id"]
    other = own + 1
    visited.ops[other] = visited.ops[own].__class__(
        other, visited.ops[own].kind, "run-42@1200", "ckpt", OperationState.RUNNING, 1, 0, NOON
    )
    assert ask(path, "POST", f"/v1/operations/{other}/cancel")[0] == 403
    assert ask(path, "POST", f"/v1/operations/{own}/cancel")[1]["state"] == "cancelled"


def test_every_route_for_the_owner_is_checked_before_the_node_is_asked():
    guarded = {route.name for route in routes.ROUTES if route.caller is Caller.OWNER}
    assert guarded == {"pin", "set_tag", "delete_tag", "set_policy", "unset_policy", "job_ended", "shutdown", "upgrade"}


@pytest.mark.parametrize("kind", list(errors.BY_CODE.values()), ids=lambda kind: kind.code)
def test_every_error_arrives_with_status_code_hint_and_exit_code(node, path, kind):
    node.refusals["flush"] = kind("it is so", hint="do this")
    status, answer = start(path, "flush")
    assert status == kind.http_status
    assert answer == {
        "error": {"code": kind.code, "message": "it is so", "hint": "do this", "exit_code": kind.exit_code}
    }


def test_a_bug_is_a_500_that_can_be_reported(node, path):
    node.held = None
    status, answer = ask(path, "GET", "/v1/runs")
    assert (status, answer["error"]["code"], answer["error"]["exit_code"]) == (500, "unexpected", 1)
    assert "TypeError" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "names"),
    [
        ("GET", "/v2/nothing", None, 404, "/v2/nothing"),
        ("PATCH", "/v1/status", None, 405, "PATCH"),
        ("POST", "/v1/operations", b"{", 400, "JSON"),
        ("POST", "/v1/operations", b"\xff\xfe", 400, "JSON"),
        ("POST", "/v1/operations", b"[" * 100_000, 400, "JSON"),
        ("POST", "/v1/operations", b'{"kind": "explode", "target": "r"}', 422, "kind"),
        ("POST", "/v1/operations", b'{"kind": "verify", "target": "r@-x"}', 422, "target"),
        ("POST", "/v1/operations", b'{"kind": "verify", "target": "r@99999999999999999999"}', 422, "target"),
        ("POST", "/v1/operations", b'{"kind": "restore", "target": "r", "arguments": {"dest": "here"}}', 422, "dest"),
        ("POST", "/v1/operations", b'{"kind": "verify", "target": "r", "argument": {}}', 422, "argument"),
        ("GET", "/v1/operations/99999999999999999999999", None, 422, "id"),
        ("GET", "/v1/events?limit=0", None, 422, "limit"),
        ("GET", "/v1/events?limit=1&limit=2", None, 422, "limit"),
        ("GET", "/v1/runs/..%2Fetc/latest", None, 422, "run"),
        ("GET", "/v1/runs/a%2500b/latest", None, 422, "run"),
        ("PUT", "/v1/policies", b'{"pattern": "*", "values": {"keep_hut": 1}}', 422, "keep_hut"),
        ("POST", "/v1/shutdown", b"x" * 2_000_000, 413, "shutdown"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(node, path, method, target, body, status, names):
    found, answer = ask(path, method, target, body)
    assert found == status
    assert names in answer["error"]["message"]
    assert answer["error"]["exit_code"] in (2, 4)
    assert node.calls == []


def test_names_that_are_not_text_go_both_ways(node, path):
    report = node.held["run-42", 1200]
    node.held = {("a\n\udcff/", 1): report.__class__(**{**_fields(report), "run": "a\n\udcff"})}
    status, found = ask(path, "GET", "/v1/runs/a%250A%25FF/checkpoints")
    assert (status, found[0]["run"]) == (200, "a%0A%FF")


def _fields(report):
    return {name: getattr(report, name) for name in report.__dataclass_fields__}


def _lines(connection: socket.socket):
    """The lines of a stream, without its HTTP head."""
    file = connection.makefile("rb")
    while file.readline() != b"\r\n":
        pass
    return file


def follow(path: str, target: str, headers: str = "") -> socket.socket:
    connection = connect(path)
    connection.sendall(f"GET {target} HTTP/1.0\r\nHost: x\r\n{headers}\r\n".encode())
    return connection


def test_progress_is_streamed_and_ends_after_the_final_state(node, path):
    node.hold = True
    number = start(path, "prefetch")[1]["id"]
    with follow(path, f"/v1/operations/{number}/events") as connection:
        lines = _lines(connection)
        assert lines.readline() == b"event: operation\n"
        assert json.loads(lines.readline().removeprefix(b"data: "))["state"] == "running"
        node.advance(number, 10)
        node.finish(number)
        rest = lines.read().decode()
    states = [json.loads(line.removeprefix("data: ")) for line in rest.splitlines() if line.startswith("data: ")]
    assert states[-1]["state"] == "done"
    assert all(state["state"] == "running" for state in states[:-1])


def test_a_silent_stream_is_kept_alive(node, path):
    node.hold = True
    number = start(path, "prefetch")[1]["id"]
    with follow(path, f"/v1/operations/{number}/events") as connection:
        lines = _lines(connection)
        seen = [lines.readline() for _ in range(6)]
    assert b": still here\n" in seen


def test_following_what_does_not_exist_is_a_plain_404(node, path):
    assert ask(path, "GET", "/v1/operations/99/events")[0] == 404


def test_a_reader_that_comes_back_misses_nothing(node, path):
    with follow(path, "/v1/events?follow", "Last-Event-ID: 1\r\n") as connection:
        lines = _lines(connection)
        assert lines.readline() == b"id: 2\n"
        node.happen("info", "x.y", "three")
        seen = b""
        while b"three" not in seen:
            seen = lines.readline()


def test_a_failure_in_the_middle_of_a_stream_is_told_in_it(node, path):
    async def follow_events(_after):
        yield node.records[0]
        raise errors.StateUnusable("the disk is full")

    node.follow_events = follow_events
    with follow(path, "/v1/events?follow=true") as connection:
        said = connection.makefile("rb").read().decode()
    assert "event: error\n" in said
    assert "the disk is full" in said


def test_followers_do_not_hold_up_the_end_of_the_server(path):
    scripted = ScriptedNode()
    ended = threading.Event()
    with contextlib.ExitStack() as stack:
        with run_server(scripted, listen(path)):
            connection = stack.enter_context(follow(path, "/v1/events?follow=true&after=0"))
            lines = _lines(connection)
            assert lines.readline() == b"id: 1\n"
        ended.set()  # run_server asserts that its thread came to an end
        lines.read()
    assert ended.is_set()


def test_metrics_are_prometheus_text(node, path):
    status, body = ask(path, "GET", "/metrics")
    assert status == 200
    assert body.startswith(b"# TYPE ckptd_exposed_bytes gauge")


def test_the_document_names_every_route_and_error():
    document = openapi.document()
    for route in routes.ROUTES:
        described = document["paths"][route.path][route.method.lower()]
        assert described["operationId"] == route.name
        assert str(route.status) in described["responses"]
        assert "422" in described["responses"]
        for error in route.raises:
            assert str(error.http_status) in described["responses"]
