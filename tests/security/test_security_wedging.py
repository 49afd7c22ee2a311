"""No user keeps others from the daemon, fills its catalog, or brings it down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import socket
import sqlite3
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from test_security_reading import saved_by
from tests_node_daemon import Daemon
from tests_security_users import ALICE, BOB, Asking, acting

from ckptctl.client import Client
from ckptd.api import gate
from ckptd.domain.errors import NotAllowed
from ckptd.engine import allowance

NewNode = Callable[..., Daemon]


def opened(path: str, count: int, said: bytes) -> list[socket.socket]:
    found = []
    for _ in range(count):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        with contextlib.suppress(OSError):
            connection.sendall(said)
        found.append(connection)
    return found


@pytest.mark.parametrize("said", [b"", b"GET /v1/status HTTP/1.1\r\nX: "], ids=["idle", "half a head"])
def test_a_thousand_connections_of_one_user_are_in_nobodys_way(node: Daemon, said: bytes) -> None:
    saved_by(ALICE, node, "open", 1)
    node.committed("open", 1)
    reading, writing = os.pipe()
    ending, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(end)
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            os.setgroups([])
            os.setresgid(BOB, BOB, BOB)
            os.setresuid(BOB, BOB, BOB)
            held = opened(str(node.home / "s"), 1000, said)
            refused = 0
            for connection in held:
                connection.setblocking(False)
                with contextlib.suppress(OSError):
                    refused += b"429" in connection.recv(100)
            os.write(writing, refused.to_bytes(4, "big"))
            os.read(ending, 1)
        except BaseException:  # noqa: BLE001 - seen in the test's output
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    try:
        refused = int.from_bytes(os.read(reading, 4), "big")
        began = time.monotonic()
        assert node.json("status")["volumes"][0]["runs"] == 1
        assert Asking(node, ALICE).get("/v1/runs/open/latest")["step"] == 1
        assert time.monotonic() - began < 10
        assert refused > 0, "some were told why"
        said_to_bob = Asking(node, BOB)._ask(lambda client: client.send("POST", "/v1/operations", {}))
        assert said_to_bob["code"] in ("too-much", "unreachable")
        descriptors = len(os.listdir(f"/proc/{node.worker_pid()}/fd"))
        assert descriptors < 250
    finally:
        os.write(end, b"x")
        os.waitpid(child, 0)
        for fd in (reading, ending, end):
            os.close(fd)
    node.until(lambda: Asking(node, BOB).get("/v1/health")["ok"], "bob is let in again")


async def test_a_connection_on_which_no_request_comes_is_ended(tmp_path: Path) -> None:
    class Silent(asyncio.Protocol):
        pass

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    listening.listen()
    door = gate.Gate(listening, Silent, idle_s=0.3)
    running = asyncio.create_task(door.run())
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    began = time.monotonic()
    writer.write(b"GET / HTTP/1.1\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    assert 0.2 < time.monotonic() - began < 5
    writer.close()
    running.cancel()
    await asyncio.wait([running])


def test_bodies_beyond_a_megabyte_are_not_taken(node: Daemon) -> None:
    worker = node.worker_pid()

    def send() -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(node.home / "s"))
            connection.sendall(b"POST /v1/operations HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(200):
                    connection.sendall(b"x" * 65536)
            return connection.recv(100).decode()

    assert " 413 " in acting(BOB, send)
    status = Path(f"/proc/{worker}/status").read_text()
    assert int(status.partition("VmRSS:")[2].split()[0]) < 400 * 1024
    assert node.worker_pid() == worker


HOSTILE = [
    b"\n", b"a\x1b[2J", b"\xff\xfe", b"-rf", b"%2E%2E", b"a@1", b"x" * 255, "\u202erun".encode(), b"*", b"'; DROP TABLE",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_of_a_run_brings_nothing_down(node: Daemon, name: bytes) -> None:
    worker = node.worker_pid()
    run = os.fsencode(node.volume) + b"/" + name

    def write() -> None:
        os.makedirs(run + b"/checkpoint-1")
        with open(run + b"/checkpoint-1/model.bin", "wb") as file:
            file.write(b"m" * 100)

    acting(BOB, write)
    saved_by(ALICE, node, "open", 1)
    node.committed("open", 1)
    node.until(lambda: any(row["committed"] for row in node.json("ls") if row["run"] != "open"), "committed")
    (mine,) = Asking(node, BOB).get("/v1/runs")[:1] if name < b"o" else Asking(node, BOB).get("/v1/runs")[-1:]
    assert mine["committed"] == 1
    assert node.ctl("ls").returncode == node.ctl("status").returncode == 0
    assert node.worker_pid() == worker


def test_pins_beyond_what_one_user_may_pin_are_refused(new_node: NewNode) -> None:
    node = new_node(access='user_pins = "3MiB"')
    node.start()
    for step in (1, 2):
        saved_by(BOB, node, "bobs", step, content=os.urandom(2 << 20))
        node.committed("bobs", step)
    bob = Asking(node, BOB)
    pin = {"target": "bobs@1", "on": True}
    assert bob.send("PUT", "/v1/pins", pin)["pinned"]
    assert bob.send("PUT", "/v1/pins", pin)["pinned"], "once more is no more"
    for refused in (
        bob.refused("PUT", "/v1/pins", {"target": "bobs@2", "on": True}),
        bob.start_refused("prefetch", "bobs@2"),
    ):
        assert (refused["code"], refused["exit_code"]) == ("too-much", 8)
        assert "unpin" in refused["hint"]
    bob.send("PUT", "/v1/pins", {"target": "bobs@1", "on": False})
    bob.ended(bob.start("prefetch", "bobs@2")["id"])
    assert bob.refused("PUT", "/v1/pins", pin)["code"] == "too-much", "what is prefetched counts"
    node.ctl("pin", "bobs@1")


def test_tags_and_policies_of_one_user_are_bounded(node: Daemon) -> None:
    saved_by(BOB, node, "bobs", 1)
    node.committed("bobs", 1)
    bob = Asking(node, BOB)

    def tag_on(client) -> int:
        number = 0
        while True:
            client.send("PUT", "/v1/tags", {"target": "bobs@1", "name": f"t{number}"})
            number += 1

    assert bob._ask(tag_on)["code"] == "too-much"
    assert len(bob.get("/v1/tags")) == allowance.TAGS

    def policies(client) -> int:
        for number in range(allowance.POLICIES + 1):
            os.mkdir(node.volume / f"bobs-{number}")
            client.send("PUT", "/v1/policies", {"pattern": f"bobs-{number}", "values": {"keep_hot": 1}})
        return number

    assert bob._ask(policies)["code"] == "too-much"
    node.ctl("policy", "set", "bobs-*", "keep_hot=1")


def test_operations_of_one_user_are_bounded_and_remembered_over_a_restart(new_node: NewNode) -> None:
    node = new_node(transfer='bandwidth = "100KiB"', extra='shutdown_timeout = "500ms"')
    node.start()
    saved_by(BOB, node, "bobs", 1, content=os.urandom(20 << 20))
    saved_by(ALICE, node, "open", 1)
    node.until(lambda: node.checkpoint("bobs", 1), "seen")
    bob = Asking(node, BOB)
    begun = [bob.start("flush", "bobs")["id"] for _ in range(allowance.OPERATIONS)]
    assert bob.start_refused("flush", "bobs")["code"] == "too-much"
    node.until(lambda: node.checkpoint("open", 1)["state"] in ("complete", "committed"), "whole")  # type: ignore[index]
    assert Asking(node, ALICE).start("verify", "open")["state"] in ("running", "done")
    node.crash()
    node.start()
    assert [row["uid"] for row in bob.get("/v1/operations")][:2] == [BOB, BOB]
    assert Asking(node, ALICE).refused("POST", f"/v1/operations/{begun[0]}/cancel")["code"] == "not-allowed"
    assert bob.send("POST", f"/v1/operations/{begun[0]}/cancel")["state"] == "cancelled"
    for number in begun[1:]:
        bob.send("POST", f"/v1/operations/{number}/cancel")


def test_finished_operations_of_one_user_do_not_push_out_the_others(node: Daemon) -> None:
    saved_by(BOB, node, "bobs", 1)
    saved_by(ALICE, node, "open", 1)
    for run in ("bobs", "open"):
        node.committed(run, 1)
    first = Asking(node, ALICE).start("checksum", "open@1")["id"]

    def many(client) -> None:
        for _ in range(600):
            body = {"kind": "checksum", "target": "bobs@1"}
            with contextlib.suppress(Exception):  # as many run as may
                client.send("POST", "/v1/operations", body)

    Asking(node, BOB)._ask(many)
    assert Asking(node, ALICE).get(f"/v1/operations/{first}")["uid"] == ALICE
    with contextlib.closing(sqlite3.connect(f"file:{node.home}/state/catalog.db?mode=ro", uri=True)) as catalog:
        (count,) = catalog.execute("SELECT count(*) FROM operations WHERE uid = ?", (BOB,)).fetchone()
    assert 0 < count <= 260


def test_ckptctl_believes_roots_daemon_and_ones_own_and_nobody_elses() -> None:
    """A socket that waits where root may come by."""
    place = Path(tempfile.mkdtemp(prefix="ckptd-security-"))
    os.chown(place, BOB, BOB)
    path = place / "s"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(BOB, BOB, BOB)
            os.setresuid(BOB, BOB, BOB)
            with socket.socket(socket.AF_UNIX) as waiting:
                waiting.bind(str(path))
                waiting.listen()
                os.write(writing, b"x")
                waiting.accept()
        finally:
            os._exit(0)
    try:
        os.read(reading, 1)
        with pytest.raises(NotAllowed, match=f"is user {BOB}'s"):
            Client(str(path)).get("/v1/status")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
        shutil.rmtree(place)
