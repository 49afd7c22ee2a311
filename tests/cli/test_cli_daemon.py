"""`up` and `down` with a played daemon; settings; doctor; completion; and how fast a command starts."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ckptctl import start
from ckptctl.stop import _alive
from ckptd.domain.model import Exposure, OperationState

PLAYED = str(Path(__file__).parent / "played_daemon.py")


@pytest.fixture
def played(monkeypatch, tmp_path, socket_path):
    """`up` starts the played daemon; whatever of it is left at the end of the test is ended."""
    monkeypatch.setattr(start, "COMMAND", (sys.executable, PLAYED))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    yield monkeypatch
    lock = tmp_path / "state" / "lock"
    if lock.exists() and lock.read_text().strip() and _alive(int(lock.read_text())):
        os.kill(int(lock.read_text()), signal.SIGTERM)


def test_up_starts_says_where_to_write_and_down_stops(played, run, tmp_path):
    first = run("up", str(tmp_path / "ckpt"), "--remote", "file:///remote")
    assert first.code == 0, first.err
    assert first.out.startswith(f"ckptd is up: write to {tmp_path}/ckpt   (remote file:///remote; RAM tier 4.0 GiB; ")
    assert "serving" in (tmp_path / "state" / "ckptd.log").read_text()
    pid = int((tmp_path / "state" / "lock").read_text())
    assert _alive(pid)
    assert os.getsid(pid) == pid

    stopped = run("down", "--json")
    assert (stopped.code, stopped.json) == (0, {"stopped": True})
    assert not _alive(pid)


def test_up_is_idempotent_and_tells_another_wish_apart(played, run, tmp_path):
    path = str(tmp_path / "ckpt")
    started = run("up", path, "--remote", "file:///remote", "--json").json
    assert started["already"] is False
    for arguments in ((), (path,), (path, "--remote", "file:///remote")):
        again = run("up", *arguments, "--json")
        assert again.code == 0
        assert again.json["already"] is True
        assert again.json["pid"] == started["pid"]
    assert "is up already" in run("up").out
    for arguments in ((str(tmp_path / "other"),), (path, "--remote", "file:///elsewhere")):
        other = run("up", *arguments)
        assert other.code == 2
        assert "ckptctl down" in other.err
        assert str(started["pid"]) in other.err
    run("down")


def test_up_names_the_socket_where_others_would_not_find_it(played, run, tmp_path, monkeypatch):
    monkeypatch.delenv("CKPTD_SOCKET")
    socket = str(tmp_path / "own.sock")
    answer = run("up", "--socket", socket)
    assert f"CKPTD_SOCKET={socket} ckptctl status" in answer.out
    assert run("status", "--socket", socket).code == 0
    assert run("down", "--socket", socket).code == 0


def test_what_keeps_the_daemon_from_starting_is_shown_with_its_exit_code(played, run):
    played.setenv("PLAYED", "refuse")
    answer = run("up")
    assert answer.code == 2
    assert "the bucket is missing" in answer.err
    assert "make it" in answer.err


def test_a_daemon_that_dies_without_a_word_leaves_its_last_lines(played, run, tmp_path):
    played.setenv("PLAYED", "die")
    answer = run("up")
    assert answer.code == 1
    assert "out of luck" in answer.err
    assert str(tmp_path / "state" / "ckptd.log") in answer.err


def test_a_config_file_that_does_not_validate_exits_2_naming_line_and_key(played, run, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("[transfer]\nparallel = 16\nparalel = 8\n")
    for arguments in (("up", "--config", str(config)), ("config", "check", str(config))):
        answer = run(*arguments)
        assert answer.code == 2
        assert f"{config}:3" in answer.err
        assert "paralel" in answer.err


def test_down_without_a_daemon_is_no_failure(run):
    answer = run("down")
    assert answer.code == 0
    assert "not running" in answer.out
    assert run("down", "--json").json == {"stopped": False}


def test_down_ends_a_supervisor_whose_worker_does_not_answer(played, run, tmp_path):
    """The deaf one is started by hand: `up` would rightly wait for an answer."""
    reading, writing = os.pipe()
    deaf = subprocess.Popen(
        [sys.executable, PLAYED, f"--ready-fd={writing}"], pass_fds=(writing,), env=os.environ | {"PLAYED": "deaf"}
    )
    try:
        assert b"ok" in os.read(reading, 100)
        answer = run("down")
        assert answer.code == 0
        assert f"pid {deaf.pid}" in answer.out
        assert deaf.wait(30) == 0
    finally:
        deaf.kill()
        deaf.wait()
        os.close(reading)
        os.close(writing)


def test_down_goes_on_serving_and_exits_5_when_the_flush_does_not_end_in_time(node, run):
    node.exposure = Exposure(3 * 1024**3, 4, 40.0)
    node.ends_with = (OperationState.TIMEOUT, "not durable in time", "not-in-time")
    answer = run("down", "--timeout", "5m")
    assert answer.code == 5
    assert "still exposed: 3.0 GiB in 4 files" in answer.err
    assert "--no-flush" in answer.err
    assert node.calls == [("shutdown", True, 300.0, False, False)]
    assert not node.stopped.is_set()


def test_down_passes_on_no_flush_and_evict(node, run, monkeypatch):
    monkeypatch.setattr("ckptctl.stop._alive", lambda _pid: False)
    assert run("down", "--no-flush", "--evict").code == 0
    assert node.calls == [("shutdown", False, None, True, False)]
    assert node.stopped.is_set()


def test_config_show_says_where_each_value_came_from(run, tmp_path, monkeypatch):
    config = tmp_path / "config.toml"
    config.write_text("[transfer]\nparallel = 4\n")
    monkeypatch.setenv("CKPTD_NODE", "gpu-1")
    rows = {row["key"]: row for row in run("config", "show", "--config", str(config), "--json").json}
    assert rows["node.name"] == {"key": "node.name", "value": "gpu-1", "origin": "CKPTD_NODE"}
    assert rows["transfer.parallel"] == {"key": "transfer.parallel", "value": "4", "origin": f"{config}:2"}
    assert rows["transfer.part_size"]["origin"] == "default"
    assert run("config", "check", str(config), "--json").json == {"ok": True, "config": str(config)}


def test_the_socket_is_found_as_the_daemon_would_find_it(tmp_path, socket_path, monkeypatch):
    """The short way of `locate` and the long way of the settings must agree."""
    from ckptctl import locate
    from ckptd.settings import load

    config = tmp_path / "config.toml"
    files = {
        "": {},
        '[node]\nsocket = "own.sock"\n': {"CKPTD_CONFIG": str(config)},
        '[node]\nstate_dir = "/var/tmp/x"\n': {"CKPTD_CONFIG": str(config)},
        "[node]\n": {"CKPTD_CONFIG": str(config), "CKPTD_STATE_DIR": str(tmp_path / "s")},
        "[transfer]\n": {"CKPTD_CONFIG": str(config), "CKPTD_SOCKET": "relative.sock"},
        "# long\n": {"CKPTD_STATE_DIR": str(tmp_path / ("d" * 120))},
    }
    for text, variables in files.items():
        config.write_text(text)
        environ = {"HOME": str(tmp_path), **variables}
        node = load(environ=environ).settings.node
        assert locate.socket_path(environ) == node.socket, text
        assert locate.state_dir(environ) == node.state_dir, text


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warning", 0), ("skipped", 0), ("failed", 1)])
def test_doctor_renders_the_checks_and_fails_when_one_failed(run, monkeypatch, state, code):
    checks = [{"check": "clock", "state": state, "detail": "3 s behind the remote", "fix": "start chrony"}]
    program = f"import sys; sys.stdout.write({json.dumps(json.dumps(checks))})"
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda words, **options: real([sys.executable, "-c", program], **options))
    answer = run("doctor")
    assert answer.code == code
    assert "clock: 3 s behind the remote" in answer.out
    assert ("start chrony" in answer.out) == (state in ("warning", "failed"))
    assert run("doctor", "--json").json == checks


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run, shell):
    answer = run("completion", shell)
    assert answer.code == 0
    assert "_CKPTCTL_COMPLETE" in answer.out


def _complete(process, words: str) -> list[str]:
    number = len(words.split(" ")) - 1
    variables = {"_CKPTCTL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
    running = process(env=os.environ | variables)
    out, err = running.communicate(timeout=60)
    assert err == ""
    return [line.split(",")[1] for line in out.split()]


def test_runs_and_steps_complete_from_the_daemon(node, process):
    assert _complete(process, "ckptctl latest r") == ["run-42"]
    assert _complete(process, "ckptctl prefetch run-42@1") == ["run-42@1200", "run-42@1100", "run-42@1000"]
    assert _complete(process, "ckptctl pre") == ["prefetch"]


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("ckptctl prefetch run-42@12", "ckptctl prefetch run-42@1200 "),
        ("ckptctl prefetch run-42@be", "ckptctl prefetch run-42@best "),
        ("ckptctl --json verify run-42@10", "ckptctl --json verify run-42@1000 "),
        ("ckptctl diff run-42@1000 run-42@12", "ckptctl diff run-42@1000 run-42@1200 "),
        ("ckptctl tag run-42@1000 be", "ckptctl tag run-42@1000 best "),
    ],
)
def test_a_real_bash_completes_runs_steps_and_tags(node, run, tmp_path, typed, completed):
    """Interactive, because what it takes for a word (COMP_WORDBREAKS has an '@') is what goes wrong."""
    run("tag", "run-42@1200", "best")
    script = tmp_path / "script"
    script.write_text(run("completion", "bash").out)
    program = tmp_path / "bin/ckptctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ckptctl "$@"\n')
    program.chmod(0o755)
    master, slave = pty.openpty()
    environ = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "TERM": "dumb",
        "PS1": "> ",
        "COLUMNS": "200",
    }
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"], stdin=slave, stdout=slave, stderr=slave, env=environ,
        start_new_session=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    os.close(slave)
    try:
        os.write(master, f"bind 'set bell-style none'; source {script}; echo re''ady\n".encode())
        _until(master, b"ready")
        os.write(master, typed.encode() + b"\t")
        _until(master, completed.encode())
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


def _until(descriptor: int, wanted: bytes) -> None:
    """As the terminal shows it: readline goes back over what it writes anew."""
    seen = b""
    while wanted not in _shown(seen):
        assert select.select([descriptor], [], [], 30)[0], seen
        seen += os.read(descriptor, 65536)


def _shown(output: bytes) -> bytes:
    line = bytearray()
    for byte in output:
        if byte == 8:
            del line[-1:]
        else:
            line.append(byte)
    return bytes(line)


def test_completion_is_quiet_without_a_daemon(process):
    assert _complete(process, "ckptctl latest r") == []


def test_latest_and_version_import_only_what_they_need(node, socket_path):
    """Scripts call them in loops; rich, pydantic and aiohttp would cost four times the rest. (No clock: a list.)"""
    program = textwrap.dedent("""
        import sys
        from ckptctl.__main__ import main
        try:
            main(sys.argv[1:])
        finally:
            heavy = {"rich", "pydantic", "aiohttp", "asyncio", "platformdirs", "boto3", "backends"} & set(sys.modules)
            sys.stderr.write(" ".join(sorted(heavy)))
    """)
    for arguments in (["--version"], ["latest", "run-42"]):
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
        assert done.stderr == ""


def test_a_reader_that_goes_away_is_no_error(node, process):
    node.held = {
        (f"run-{n}", 1): dataclasses.replace(node.held["run-42", 1200], run=f"run-{n}", step=1) for n in range(3000)
    }
    reading, writing = os.pipe()
    os.close(reading)
    running = process("ls", "--json", stdout=writing)
    os.close(writing)
    _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (141, "")
