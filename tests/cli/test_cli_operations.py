"""Long work from the command line: results, exit codes, Ctrl-C, time limits, restarts of the daemon, progress bars."""

from __future__ import annotations

import functools
import json
import os
import pty
import select
import signal
import threading
import time

import pytest
from scripted_node import MIB, ScriptedNode, listen, run_server

from ckptctl.client import Client
from ckptctl.commands.operations import summary
from ckptd.domain.errors import NoRoom, RemoteError
from ckptd.domain.model import Exposure, OperationState

FINISHED = {"id", "kind", "state", "bytes_total", "bytes_done", "seconds", "error"}


def until(holds, what: str, limit_s: float = 30.0):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found = holds()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never: {what}")


def test_prefetch_prints_the_finished_operation(node, run):
    answer = run("prefetch", "run-42@1000", "--to", "nvme", "--match", "*.safetensors", "--ttl", "2h", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert set(answer.json) >= FINISHED
    expected = {"id": 1, "kind": "prefetch", "state": "done", "bytes_total": MIB, "bytes_done": MIB, "seconds": 0.25}
    assert {key: answer.json[key] for key in expected} == expected
    assert answer.json["error"] is None
    arguments = {"to": "nvme", "match": "*.safetensors", "ttl": "7200.0"}
    assert node.calls == [("prefetch", None, "run-42@1000", arguments)]


def test_prefetch_says_what_is_hot_and_how_fast_it_went(node, run):
    answer = run("prefetch", "run-42")
    assert answer.code == 0
    assert answer.out == "prefetch run-42@1200: 1.0 MiB in 0.25 s (4.0 MiB/s)  /ckpt/run-42/checkpoint-1200\n"


def test_flush_verify_restore_evict_rm_reach_the_node(node, run, tmp_path):
    assert run("flush", "--json").json["kind"] == "flush"
    assert run("flush", "run-42@1200").code == 0
    assert run("verify", "run-42@1200", "--remote").out.startswith("verify run-42@1200: 1.0 MiB in ")
    assert run("restore", "run-42@1200", str(tmp_path / "here")).code == 0
    assert run("evict", "run-42@1000").code == 0
    assert run("rm", "run-42@1000", "--remote", "--yes").code == 0
    assert node.calls == [
        ("flush", None, None, {}),
        ("flush", None, "run-42@1200", {}),
        ("verify", None, "run-42@1200", {"remote": "true"}),
        ("restore", None, "run-42@1200", {"dest": str(tmp_path / "here")}),
        ("evict", None, "run-42@1000", {}),
        ("remove", None, "run-42@1000", {"remote": "true"}),
    ]


def test_pin_and_unpin(node, run):
    assert run("pin", "run-42", "--json").json["pinned"] is True
    assert run("unpin", "run-42@1200").out == "run-42@1200 is no longer pinned\n"
    assert not node.held["run-42", 1200].pinned


def test_a_torn_step_exits_6(node, run):
    answer = run("prefetch", "run-42@1100")
    assert answer.code == 6
    assert "torn" in answer.err


def test_the_only_copy_is_not_evicted_without_force(node, run):
    assert run("evict", "fresh@5").code == 6
    assert run("evict", "fresh@5", "--force").code == 0


def test_no_room_exits_8(node, run):
    node.refusals["prefetch"] = NoRoom("no tier has room for 1.0 GiB", hint="evict something")
    answer = run("prefetch", "run-42", "--json")
    assert (answer.code, answer.out) == (8, "")
    assert answer.error == {
        "code": "no-room",
        "message": "no tier has room for 1.0 GiB",
        "hint": "evict something",
        "exit_code": 8,
    }


@pytest.mark.parametrize(
    ("state", "error_code", "exit_code"),
    [
        (OperationState.FAILED, "integrity", 6),
        (OperationState.FAILED, "no-room", 8),
        (OperationState.FAILED, "remote", 1),
        (OperationState.CANCELLED, None, 5),
        (OperationState.TIMEOUT, "not-in-time", 5),
    ],
)
def test_an_operation_that_fails_later_decides_the_exit_code(node, run, state, error_code, exit_code):
    node.ends_with = (state, "it went wrong", error_code)
    answer = run("verify", "run-42", "--json")
    assert answer.code == exit_code
    assert answer.json["state"] == state.value
    assert answer.json["error"] == "it went wrong"
    assert answer.error["exit_code"] == exit_code


def test_a_remote_that_fails_is_no_bug(node, run):
    node.refusals["flush"] = RemoteError("connection refused")
    answer = run("flush")
    assert answer.code == 1
    assert "report" not in answer.err


def test_no_wait_returns_at_once(node, run):
    node.hold = True
    answer = run("prefetch", "run-42", "--no-wait", "--json")
    assert (answer.code, answer.json["state"]) == (0, "running")
    assert "ckptctl cancel 2" in run("prefetch", "run-42", "--no-wait").out


@pytest.mark.parametrize("command", [("prefetch", "run-42"), ("flush", "run-42")])
def test_a_time_limit_exits_5_and_leaves_the_operation_alone(node, run, command):
    node.hold = True
    node.exposure = Exposure(3 * MIB, 2, 4.0)
    answer = run(*command, "--timeout", "100ms", "--json")
    assert answer.code == 5
    assert answer.json["state"] == "timeout"
    assert node.ops[1].state is OperationState.RUNNING
    human = run(*command, "--timeout", "100ms")
    assert "goes on" in human.err
    assert "ckptctl cancel 2" in human.err
    assert ("still exposed: 3.0 MiB in 2 files" in human.err) == (command[0] == "flush")


def test_the_end_of_an_operation_is_waited_for(node, process):
    node.hold = True
    running = process("prefetch", "run-42", "--json")
    until(lambda: 1 in node.ops, "the operation began")
    node.advance(1, MIB // 2)
    node.finish(1)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert json.loads(out)["bytes_done"] == MIB


def test_ctrl_c_detaches_and_says_how_to_cancel(node, process):
    node.hold = True
    running = process("prefetch", "run-42")
    until(lambda: node.followers, "it is followed")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "ckptctl cancel 1" in err
    assert node.ops[1].state is OperationState.RUNNING


def test_following_survives_a_restart_of_the_daemon(socket_path, process):
    node = ScriptedNode()
    node.hold = True
    with run_server(node, listen(socket_path)):
        running = process("prefetch", "run-42", "--json")
        running_operation = until(lambda: node.ops.get(1), "the operation began")
        until(lambda: node.followers, "it is followed")
    successor = ScriptedNode()
    successor.ops = {1: running_operation}
    with run_server(successor, listen(socket_path)):
        until(lambda: successor.followers, "it is followed again")
        successor.finish(1)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert json.loads(out)["state"] == "done"


def test_a_daemon_that_does_not_come_back_exits_3(socket_path, run, monkeypatch):
    monkeypatch.setattr("ckptctl.client.Client", functools.partial(Client, patience_s=0.2))
    node = ScriptedNode()
    node.hold = True

    def serve() -> None:
        with run_server(node, listen(socket_path)):
            until(lambda: node.followers, "it is followed")

    thread = threading.Thread(target=serve)
    thread.start()
    assert node.serving.wait(30)
    answer = run("prefetch", "run-42")
    thread.join(30)
    assert answer.code == 3
    assert "did not come back" in answer.err


def test_a_terminal_sees_a_bar_with_speed_and_time_left(node, process):
    node.hold = True
    master, slave = pty.openpty()
    running = process("prefetch", "run-42", stderr=slave, env=os.environ | {"TERM": "xterm", "COLUMNS": "120"})
    os.close(slave)
    until(lambda: node.followers, "it is followed")
    node.advance(1, MIB // 4)
    time.sleep(0.3)
    node.advance(1, MIB // 2)
    shown = _read_until(master, b"50%")
    node.finish(1)
    out, _ = running.communicate(timeout=60)
    os.close(master)
    assert running.returncode == 0
    assert "prefetch run-42@1200" in shown
    assert "B/s" in shown or "KiB" in shown or "kB" in shown
    assert out.startswith("prefetch run-42@1200: 1.0 MiB in ")


def _read_until(descriptor: int, wanted: bytes) -> str:
    seen = b""
    while wanted not in seen:
        assert select.select([descriptor], [], [], 30)[0], seen
        seen += os.read(descriptor, 65536)
    return seen.decode()


def test_ops_and_cancel(node, run):
    assert run("ops").out == "no operations\n"
    node.hold = True
    run("prefetch", "run-42", "--no-wait")
    assert [set(one) >= FINISHED for one in run("ops", "--json").json] == [True]
    assert "prefetch run-42@1200" in run("ops").out
    assert run("cancel", "1").out == "prefetch run-42@1200: cancelled\n"
    assert run("cancel", "1", "--json").json["state"] == "cancelled"


def test_rm_refuses_without_a_terminal_and_without_yes(node, run):
    answer = run("rm", "run-42@1200")
    assert answer.code == 2
    assert "--yes" in answer.err
    assert node.calls == []


@pytest.mark.parametrize(("reply", "deleted"), [("y\n", True), ("n\n", False)])
def test_rm_asks_on_a_terminal(node, process, reply, deleted):
    master, slave = pty.openpty()
    running = process("rm", "run-42", "--remote", stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    asked = _read_until(master, b"[y/N]")
    assert "all 3 checkpoints of run-42 (3.0 MiB) from this node and from the remote?" in asked
    os.write(master, reply.encode())
    running.wait(60)
    os.close(master)
    assert bool(node.calls) == deleted
    assert (running.returncode == 0) == deleted


def test_policy_is_set_shown_and_unset(node, run):
    assert run("policy", "show").out.startswith("nothing is set")
    assert run("policy", "set", "run-*", "keep_hot=2", "sync=latest", "settle=3s", "--json").json == {
        "volume": "ckpt", "pattern": "run-*", "values": {"keep_hot": 2, "sync": "latest", "settle": "3s"},
    }  # fmt: skip
    assert node.rows == {"run-*": {"keep_hot": "2", "sync": "latest", "settle": "3s"}}
    assert run("policy", "show", "--json").json[0]["pattern"] == "run-*"
    effective = run("policy", "show", "run-42", "--json").json
    assert (effective["values"]["keep_hot"], effective["sources"]["keep_hot"]) == (2, "run-*")
    assert (effective["values"]["keep_nvme"], effective["sources"]["keep_nvme"]) == (4, "default")
    assert run("policy", "unset", "run-*").code == 0
    assert run("policy", "unset", "run-*").code == 4


@pytest.mark.parametrize("pair", ["keep_hut=2", "keep_hot=-1", "sync=some", "settle=soon"])
def test_a_policy_that_cannot_be_is_refused_with_exit_2_naming_the_key(node, run, pair):
    answer = run("policy", "set", "run-*", pair)
    assert answer.code == 2
    assert pair.split("=")[0] in answer.err
    assert node.rows == {}


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("keep_hut=2", "did you mean 'keep_hot'"), ("keep_hot=-1", "a number from 0"), ("keep_hot=1e3", "a number from 0"),
        ("keep_hot=99999999999999999999", "a number from 0"), ("sync=some", "all or latest"), ("settle=soon", "such as 2s"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_policy_is_said_in_the_words_of_the_command_line(node, run, pair, says):
    answer = run("policy", "set", "run-*", pair)
    assert says in answer.err
    assert "openapi" not in answer.err
    assert "values." not in answer.err


def test_a_dry_run_shows_what_would_go_and_changes_nothing(node, run):
    answer = run("policy", "set", "run-*", "keep_hot=1", "keep_remote=1", "--dry-run")
    assert answer.code == 0
    assert [line.split() for line in answer.out.splitlines()] == [
        ["RUN", "STEP", "FREES", "IN", "RAM", "NVME", "REMOTE"],
        ["run-42", "1000", "-", "-", "1.0", "MiB", "off", "the", "remote"],
        ["run-42", "1200", "1.0", "MiB", "+1.0", "MiB", "-", "to", "NVMe"],
        ["all", "1.0", "MiB", "+1.0", "MiB", "1.0", "MiB", "nothing", "was", "changed", "(--dry-run)"],
    ]
    assert node.rows == {}
    found = run("policy", "set", "run-*", "keep_hot=1", "-n", "--json").json
    assert found["values"] == {"keep_hot": 1}
    assert found["freed"] == {"ram": 1 << 20, "nvme": -(1 << 20), "remote": 1 << 20}
    assert found["runs"][0]["checkpoints"][0] == {
        "step": 1000,
        "actions": ["prune"],
        "freed": {"ram": 0, "remote": 1 << 20},
    }
    assert run("policy", "set", "x*", "keep_hot=1", "--dry-run").out == "x*: nothing would go now\n"


def test_a_speed_counts_what_moved_and_not_what_was_there():
    done = {
        "kind": "prefetch", "target": "r@1", "volume": "v", "bytes_done": 10 * MIB, "bytes_total": 10 * MIB, "seconds": 2.0,
        "bytes_before": 8 * MIB,
    }  # fmt: skip
    assert summary(done) == "prefetch r@1: 10.0 MiB, 2.0 MiB of it in 2 s (1.0 MiB/s)"
    assert summary({**done, "bytes_before": 0}) == "prefetch r@1: 10.0 MiB in 2 s (5.0 MiB/s)"
    assert "/s" not in summary({**done, "bytes_before": 10 * MIB})
