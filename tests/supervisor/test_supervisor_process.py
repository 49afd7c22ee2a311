"""The supervisor with real processes, real signals and a real socket; only the worker's work is a stub's."""

from __future__ import annotations

import os
import signal
import stat
import threading
from pathlib import Path

import pytest
from supervised import Daemons, alive, eventually, stopped


def test_a_ready_worker_is_announced_and_answers_on_the_private_socket(daemons: Daemons) -> None:
    daemon = daemons.serving()
    assert daemon.call() > 0
    expected = 0o666 if os.geteuid() == 0 else 0o600
    assert stat.S_IMODE(daemon.socket_path.stat().st_mode) == expected
    assert stat.S_IMODE(daemon.state_dir.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)


def test_a_killed_worker_is_replaced_and_told_how_its_predecessor_ended(daemons: Daemons) -> None:
    daemon = daemons.serving()
    first = daemon.call()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{first}"), "its end")  # it may accept one more caller while it dies
    second = daemon.call()
    assert second != first
    assert daemon.notes()[-1].startswith(f"started {second} restarts=1 last_exit=killed by SIGKILL")


def test_callers_queue_at_the_socket_while_no_worker_lives(daemons: Daemons) -> None:
    daemon = daemons.serving()
    answers: list[int] = []
    first = daemon.call()
    os.kill(first, signal.SIGSTOP)
    eventually(lambda: stopped(first), "it accepts nobody from here on: every caller below meets its successor")
    callers = [threading.Thread(target=lambda: answers.append(daemon.call())) for _ in range(5)]
    for caller in callers:
        caller.start()
    os.kill(first, signal.SIGKILL)
    for caller in callers:
        caller.join(timeout=30)
    assert len(answers) == 5
    assert first not in answers


def test_a_worker_that_dies_again_and_again_is_started_with_growing_pauses(daemons: Daemons) -> None:
    daemon = daemons.serving("crash-later")
    os.kill(daemon.call(), signal.SIGKILL)
    eventually(lambda: len(daemon.notes()) >= 5, "four restarts")
    daemon.process.send_signal(signal.SIGTERM)
    code, errors = daemon.end()
    assert code in {0, 1}  # in a pause, or while one of the dying workers was there
    for pause in ("0.1", "0.2", "0.4"):
        assert f"next_start_in_s={pause}" in errors
    assert 'reason="exit code 3"' in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_worker_in_order_and_removes_the_socket(daemons: Daemons, number: signal.Signals) -> None:
    daemon = daemons.serving()
    worker = daemon.call()
    daemon.process.send_signal(number)
    assert daemon.end()[0] == 0
    assert daemon.notes()[-1] == f"stopped {worker}"
    assert not daemon.socket_path.exists()


def test_what_the_worker_says_at_its_end_becomes_the_exit_code(daemons: Daemons) -> None:
    daemon = daemons.serving("exposed")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.end()[0] == 5


def test_a_second_interrupt_kills_a_worker_that_takes_its_time(daemons: Daemons) -> None:
    daemon = daemons.serving("deaf", limit_s=600)
    daemon.process.send_signal(signal.SIGINT)
    eventually(lambda: daemon.notes()[-1].startswith("stopped"), "the first interrupt is passed on")
    daemon.process.send_signal(signal.SIGINT)
    code, errors = daemon.end()
    assert code == 1
    assert "interrupted twice" in errors


def test_a_worker_that_cannot_start_is_not_tried_again_and_its_reason_is_passed_on(daemons: Daemons) -> None:
    daemon = daemons.start("refuse")
    assert daemon.announcement() == {
        "ok": False, "message": "the bucket is not there", "hint": "make it", "code": "not-known", "exit_code": 4,
    }  # fmt: skip
    code, errors = daemon.end()
    assert code == 4
    assert "the bucket is not there" in errors
    assert len(daemon.notes()) == 1
    assert not daemon.socket_path.exists()


def test_a_worker_that_crashes_before_it_ever_served_is_given_up_after_three_tries(daemons: Daemons) -> None:
    daemon = daemons.start("crash")
    said = daemon.announcement()
    assert "exit code 3" in said["message"]
    assert daemon.end()[0] == 1
    assert len(daemon.notes()) == 3


def test_a_second_daemon_is_refused_by_the_pid_of_the_first(daemons: Daemons) -> None:
    first = daemons.serving()
    second = daemons.start(socket_path=Path(f"{first.socket_path}2"))
    said = second.announcement()
    assert said["code"] == "already-running"
    assert f"pid {first.process.pid} " in said["message"]
    assert second.end()[0] == 1
    assert first.call() > 0


def test_a_second_daemon_on_the_same_socket_is_refused(daemons: Daemons) -> None:
    first = daemons.serving()
    second = daemons.start(state="other", socket_path=first.socket_path)
    said = second.announcement()
    assert said["code"] == "already-running"
    assert str(first.socket_path) in said["message"]
    assert second.end()[0] == 1
    assert first.call() > 0


def test_after_a_killed_supervisor_the_worker_ends_and_the_next_daemon_replaces_the_stale_socket(
    daemons: Daemons,
) -> None:
    first = daemons.serving()
    worker = first.call()
    first.process.kill()
    first.process.wait()
    eventually(lambda: not alive(worker), "the worker ends with its supervisor")
    assert first.socket_path.exists()
    second = daemons.serving()
    assert second.call() != worker


def test_a_socket_path_that_is_a_file_is_left_alone(daemons: Daemons, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("mine", encoding="utf-8")
    daemon = daemons.start(socket_path=path)
    assert "is not a socket" in daemon.announcement()["message"]
    assert daemon.end()[0] == 1
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_state_directory_that_cannot_be_made_is_named_with_the_way_out(daemons: Daemons, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    daemon = daemons.start(state="file/below", socket_path=tmp_path / "s")
    said = daemon.announcement()
    assert said["code"] == "state-unusable"
    assert str(tmp_path / "file/below") in said["message"]
    assert "--state-dir" in said["hint"]
    assert daemon.end()[0] == 1
