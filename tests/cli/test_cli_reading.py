"""Commands that only look: what they print, the JSON keys of docs/cli.md, and how they fail."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pty
import re
import select
import signal
import termios

import pytest
from scripted_node import ScriptedNode, listen, run_server

from ckptd.domain.errors import NotAllowed
from ckptd.domain.model import CheckpointState, Exposure, VolumeReport

STATUS = {"version", "node", "pid", "uptime_s", "restarts", "volumes", "tiers", "exposure", "transfers", "operations"}
VOLUME = {"name", "path", "remote", "front", "passthrough", "front_reason", "remote_ok", "runs", "checkpoints"}
TIER = {"name", "path", "budget_bytes", "used_bytes", "pinned_bytes", "huge_pages"}
CHECKPOINT = {
    "run", "step", "state", "framework", "files", "bytes", "hot_bytes", "durable_bytes", "tiers", "pinned", "path",
    "written_at", "committed_at",
}  # fmt: skip


def test_status_json_has_the_promised_keys(node, run):
    answer = run("status", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert set(answer.json) >= STATUS
    assert set(answer.json["volumes"][0]) >= VOLUME
    assert set(answer.json["tiers"][0]) >= TIER
    assert answer.json["exposure"] == {"bytes": 0, "files": 0, "oldest_s": None}
    assert answer.json["transfers"] == {
        "upload_bytes_per_s": 0.0, "download_bytes_per_s": 0.0, "queued_bytes": 0, "sent_bytes": 0, "copied_bytes": 0,
    }  # fmt: skip


def test_status_shows_the_worst_news(node, run):
    node.exposure = Exposure(3 * 1024**3, 4, 40.0)
    node.volumes = (
        VolumeReport("ckpt", "/ckpt", "s3://bucket/prefix", "watch", False, "", False, "connection refused", 1.0, 3, 5),
    )
    answer = run("status")
    assert answer.code == 0
    for text in (
        "gpu-017", "s3://bucket/prefix", "3.0 GiB in 4 files", "40 s", "unreachable since 1970-01-01T00:00:01Z",
        "connection refused", "the RAM tier shrinks", "1.0 GiB of 4.0 GiB",
    ):  # fmt: skip
        assert text in answer.out.replace("\n", " "), text


def test_ls_lists_runs(node, run):
    answer = run("ls")
    assert answer.code == 0
    assert [line.split()[0] for line in answer.out.splitlines()] == ["RUN", "cold", "fresh", "run-42"]
    assert run("ls", "--json").json[2] == {
        "volume": "ckpt", "run": "run-42", "checkpoints": 3, "committed": 2, "newest_step": 1200,
        "newest_state": "committed", "bytes": 3 * 1024**2, "hot_bytes": 2 * 1024**2, "durable_bytes": 2 * 1024**2,
        "newest_restorable": 1200, "exposure": {"bytes": 0, "files": 0, "oldest_s": None},
    }  # fmt: skip


def test_ls_of_a_run_lists_its_checkpoints_newest_first(node, run):
    answer = run("ls", "run-42", "--json")
    assert [(one["step"], one["state"]) for one in answer.json] == [
        (1200, "committed"),
        (1100, "torn"),
        (1000, "committed"),
    ]
    assert set(answer.json[0]) >= CHECKPOINT
    assert answer.json[0]["written_at"] == "2026-11-22T10:20:00Z"
    assert answer.json[0]["committed_at"] == "2026-11-22T10:20:12Z"
    assert answer.json[0]["tiers"] == ["ram"]
    table = run("ls", "run-42").out
    assert "model-2.safetensors was never closed" in table


def test_latest_prints_the_path_and_nothing_else(node, run):
    answer = run("latest", "run-42")
    assert (answer.code, answer.out, answer.err) == (0, "/ckpt/run-42/checkpoint-1200\n", "")


def test_latest_json(node, run):
    found = run("latest", "run-42", "--json").json
    assert {key: found[key] for key in ("run", "step", "path", "state")} == {
        "run": "run-42", "step": 1200, "path": "/ckpt/run-42/checkpoint-1200", "state": "committed",
    }  # fmt: skip


def test_latest_of_a_cold_checkpoint_says_how_to_bring_it_here(node, run):
    answer = run("latest", "cold")
    assert (answer.code, answer.out) == (0, "/ckpt/cold/checkpoint-7\n")
    assert "ckptctl prefetch 'cold@7'" in answer.err


def test_latest_of_a_mounted_volume_is_silent_about_cold_ones(node, run):
    node.volumes = (dataclasses.replace(node.volumes[0], front="mount"),)
    assert run("latest", "cold").err == ""


def test_latest_without_a_restorable_checkpoint_is_not_known(node, run):
    answer = run("latest", "fresh")
    assert (answer.code, answer.out) == (4, "")
    assert "no restorable checkpoint" in answer.err


@pytest.mark.parametrize(
    "arguments", [("ls", "nope"), ("latest", "nope"), ("--volume", "nope", "ls", "run-42"), ("cancel", "99")]
)
def test_what_is_not_known_is_named_and_exits_4(node, run, arguments):
    answer = run(*arguments, "--json")
    assert answer.code == 4
    assert answer.out == ""
    assert answer.error["code"] == "not-known"
    assert answer.error["exit_code"] == 4
    assert arguments[-1] in answer.error["message"] or "nope" in answer.error["message"]


def test_names_that_are_not_text_are_found_as_they_are_shown(node, run):
    odd = dataclasses.replace(node.held["run-42", 1200], run="a b\n\udcff", path="/ckpt/a b\n\udcff/checkpoint-1200")
    node.held = {(odd.run, 1200): odd}
    assert [row["run"] for row in run("ls", "--json").json] == ["a b%0A%FF"]
    assert run("latest", "a b%0A%FF", "--json").json["path"] == "/ckpt/a b%0A%FF/checkpoint-1200"
    assert run("latest", "a b\n\udcff", "--json").code == 0


def test_latest_prints_the_very_bytes_of_a_path(node, process):
    odd = dataclasses.replace(node.held["run-42", 1200], run="odd", path="/ckpt/odd/é\udcff-1200")
    node.held = {("odd", 1200): odd}
    running = process("latest", "odd", text=False)
    assert running.communicate(timeout=60)[0] == "/ckpt/odd/é".encode() + b"\xff-1200\n"


def test_events(node, run):
    assert [record["event"] for record in run("events", "--json").json] == ["checkpoint.committed", "tier.pressure"]
    assert "the RAM tier shrinks" in run("events", "--limit", "1").out
    assert "is committed" not in run("events", "--limit", "1").out


def test_events_follow_prints_a_line_for_each_new_one(node, process):
    running = process("events", "--follow", "--json")
    assert json.loads(running.stdout.readline())["id"] == 1
    assert json.loads(running.stdout.readline())["id"] == 2
    node.happen("error", "remote.unreachable", "connection refused")
    assert json.loads(running.stdout.readline())["message"] == "connection refused"


def test_following_events_over_a_restart_repeats_none_and_misses_none(socket_path, process):
    node = ScriptedNode()
    with run_server(node, listen(socket_path)):
        running = process("events", "--follow", "--json")
        assert [json.loads(running.stdout.readline())["id"] for _ in range(2)] == [1, 2]
        node.happen("info", "x.y", "three")
        assert json.loads(running.stdout.readline())["id"] == 3
    node.changed = None
    node.records.append(dataclasses.replace(node.records[-1], id=4))
    with run_server(node, listen(socket_path)):
        assert json.loads(running.stdout.readline())["id"] == 4


def test_status_watch_refreshes_until_ctrl_c(node, process):
    master, slave = pty.openpty()
    environ = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    running = process("status", "--watch", stdout=slave, stderr=slave, env=environ)
    os.close(slave)
    seen = b""
    for wanted, exposed in ((b"all is durable", 3), (b"3.0 GiB in 4 files", 0)):
        while wanted not in seen:
            assert select.select([master], [], [], 30)[0], seen
            seen += os.read(master, 65536)
        node.exposure = Exposure(exposed * 1024**3, 4, 40.0)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 0
    os.close(master)


LONG = "/mnt/lustre/projects/large-language-models/training/checkpoints-of-the-team/volume"


def test_status_on_a_narrow_terminal_cuts_nothing(node, process):
    node.volumes = (
        VolumeReport("ckpt", LONG, f"s3://bucket{LONG}", "watch", False, "", False, f"no {LONG}", 1.0, 3, 5),
    )
    node.records[1] = dataclasses.replace(node.records[1], message=f"{LONG}/x is trouble")
    shown = _on_terminal(process, 80, "status")
    assert all(len(line) <= 80 for line in shown.splitlines())
    joined = "".join(shown.split())
    for text in (LONG, f"s3://bucket{LONG}", f"no{LONG}", f"{LONG}/xistrouble", "1.0GiBof4.0GiB", "/dev/shm/x"):
        assert text in joined, shown
    assert "…" not in shown


def test_status_watch_into_a_pipe_prints_one_screen_after_the_other(node, process):
    running = process("status", "--watch")
    seen = [running.stdout.readline()]
    while sum(line.startswith("ckptd ") for line in seen) < 2:
        seen.append(running.stdout.readline())
        assert seen[-1], "it goes on"
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 0


def test_ls_on_a_narrow_terminal_wraps_the_reason_and_one_line_is_printed_where_a_program_reads(node, run, process):
    reason = f"lacks {LONG}/model-00002-of-00003.safetensors, which an index names, and that is why it is not whole"
    node.held["run-42", 1100] = dataclasses.replace(node.held["run-42", 1100], reason=reason)
    shown = _on_terminal(process, 80, "ls", "run-42")
    assert f"{LONG}/model-00002-of-00003.safetensors" in shown
    assert " ".join(reason.split()) in " ".join(shown.split())
    assert shown.splitlines()[0].split() == [
        "STEP",
        "STATE",
        "SIZE",
        "DURABLE",
        "AFTER",
        "TIERS",
        "WRITTEN",
        "FRAMEWORK",
    ]
    assert all(len(line) <= 80 or LONG in line for line in shown.splitlines())
    piped = run("ls", "run-42").out.splitlines()
    assert len(piped) == 4
    assert piped[2].endswith(reason)


def test_ls_says_when_it_became_durable_and_what_keeps_it(node, run):
    run("tag", "run-42@1200", "best")
    node.held["run-42", 1200] = dataclasses.replace(
        node.held["run-42", 1200], durable_after_s=12.3, protected=("tag:best", "link:best.ckpt", "pin", "every")
    )
    line = run("ls", "run-42").out.splitlines()[1]
    assert "12 s" in line
    assert "tagged best, kept for best.ckpt, kept by keep_every" in line
    found = run("ls", "run-42@best", "--json").json
    assert [one["step"] for one in found] == [1200]
    assert found[0]["protected"] == ["tag:best", "link:best.ckpt", "pin", "every"]
    assert found[0]["durable_after_s"] == 12.3
    assert [one["step"] for one in run("ls", "run-42@1000", "--json").json] == [1000]
    assert run("ls", "run-42@7").code == 4
    assert run("ls", "run-42@worst").code == 4


def test_ls_of_a_run_with_an_at_sign_in_its_name(node, run):
    odd = dataclasses.replace(node.held["run-42", 1200], run="a@b")
    node.held["a@b", 1200] = odd
    assert [one["run"] for one in run("ls", "a@b", "--json").json] == ["a@b"]
    assert [one["step"] for one in run("ls", "a@b@1200", "--json").json] == [1200]


def test_ls_of_runs_shows_the_newest_restorable_step_and_the_exposure(node, run):
    node.exposure = Exposure(3 * 1024**2, 4, 40.0)
    node.held["run-42", 1300] = dataclasses.replace(node.held["run-42", 1100], step=1300)
    line = run("ls").out.splitlines()[3]
    assert "1200 (1300 torn)" in line
    assert "3.0 MiB, 40 s" in line
    assert "none (5 writing)" in run("ls").out


def _on_terminal(process, columns: int, *arguments: str) -> str:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, columns))
    environ = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    running = process(*arguments, stdout=slave, env=environ | {"TERM": "dumb"})
    os.close(slave)
    seen = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while piece := os.read(master, 65536):
            seen += piece
    assert running.wait(60) == 0
    os.close(master)
    return re.sub(r"\x1b\[[0-9;]*m", "", seen.decode().replace("\r\n", "\n"))


def test_without_a_daemon_exit_code_3_says_how_to_start_it(run):
    answer = run("status")
    assert answer.code == 3
    assert "ckptctl up" in answer.err
    assert run("status", "--json").error["code"] == "unreachable"


def test_the_socket_of_a_dead_daemon_is_like_none(run, socket_path):
    listen(socket_path).close()
    assert run("ls").code == 3


def test_global_options_work_on_both_sides_of_the_command(node, run, socket_path, monkeypatch):
    monkeypatch.delenv("CKPTD_SOCKET")
    for arguments in (("--socket", socket_path, "--json", "ls"), ("ls", "--json", "--socket", socket_path)):
        assert run(*arguments).code == 0
        assert isinstance(run(*arguments).json, list)
    assert run("--version").out == run("ls", "--version").out


def test_usage_errors_exit_2(node, run):
    for arguments in (
        ("latset",), ("ls", "a/b"), ("latest",), ("prefetch", "run-42@-x"),
        ("prefetch", "run-42@latest"), ("prefetch", "r", "--timeout", "soon"),
        ("cancel", "x"), ("status", "--nope"), ("policy", "set", "run-*", "keep_hot"),
    ):  # fmt: skip
        answer = run(*arguments)
        assert answer.code == 2, arguments
        assert answer.out == ""
        assert "error:" in answer.err
        assert json.loads(run(*arguments, "--json").err)["error"]["exit_code"] == 2
    assert "did you mean 'latest'" in run("latset").err


def test_several_volumes_want_a_name(node, run):
    node.volumes = (node.volumes[0], dataclasses.replace(node.volumes[0], name="other"))
    answer = run("latest", "run-42")
    assert answer.code == 2
    assert "--volume" in answer.err
    assert run("latest", "run-42", "--volume", "ckpt").code == 0


def test_what_is_not_allowed_exits_7(node, run):
    node.refusals["evict"] = NotAllowed("user 1000 may not evict")
    assert run("evict", "run-42@1200").code == 7


def test_a_bug_exits_1_asks_for_a_report_and_names_the_log(node, run, tmp_path):
    node.held = None
    answer = run("ls")
    assert answer.code == 1
    assert "report" in answer.err
    assert str(tmp_path / "state" / "ckptd.log") in answer.err


def test_states_have_the_promised_names():
    assert {state.value for state in CheckpointState} == {"writing", "complete", "committed", "torn", "lost"}
