"""The worker is killed again and again, at any moment: nothing that was saved is lost, and nothing false is told."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import leftovers, manifest_path, objects

KILLS = 15


class Killer(threading.Thread):
    """Kills the worker at some moment, and every third time the whole daemon, which is then started anew (in part so that
    the pauses between the worker's starts stay short).
    """

    def __init__(self, daemon: Daemon, seed: int) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self._random = random.Random(seed)
        self.kills = 0

    def run(self) -> None:
        last: int | None = None
        while self.kills < KILLS:
            last = self._next_worker(last)
            # Sometimes while it starts, sometimes while it serves.
            time.sleep(self._random.uniform(0.2, 1.5))
            self.kills += 1
            assert self._daemon.process is not None
            if self.kills % 3 == 0:
                self._daemon.process.kill()
                self._daemon.process.wait()
                while Path(f"/proc/{last}").exists():
                    time.sleep(0.01)
                self._daemon.launch()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(last, signal.SIGKILL)

    def _next_worker(self, last: int | None) -> int:
        assert self._daemon.process is not None
        while (worker := worker_of(self._daemon.process.pid)) in (None, last):
            time.sleep(0.01)
        assert worker is not None
        return worker


def worker_of(supervisor: int) -> int | None:
    text = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
    return next((int(pid) for pid in text.split()), None)


@pytest.mark.slow
def test_nothing_is_lost_however_often_the_worker_is_killed(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(
        policy="keep_hot = 1\nkeep_nvme = 2", transfer='bandwidth = "30MiB"\npart_size = "5MiB"',
        ram_budget="64MiB", nvme_budget="64MiB",
    )  # fmt: skip
    daemon.start()
    run = daemon.volume / "run-1"
    contents: dict[int, bytes] = {}
    killer = Killer(daemon, seed=4711)
    killer.start()
    step = 0
    try:
        while killer.is_alive() and step < 100:
            step += 1
            contents[step] = os.urandom(random.Random(step).choice((1000, MIB, 6 * MIB)))
            save(run / f"tmp-checkpoint-{step}", {"model.bin": contents[step], "DONE": b""})
            (run / f"tmp-checkpoint-{step}").rename(run / f"checkpoint-{step}")
            if step % 5 == 0:
                contents[step] = os.urandom(MIB)
                save(run / f"checkpoint-{step}", {"model.bin": contents[step], "DONE": b""})
            time.sleep(0.2)
    finally:
        killer.join()  # it starts daemons: none may come after the fixture has ended them
    assert killer.kills == KILLS
    assert step > 10

    seen: dict[int, str] = {}

    def all_committed() -> bool:
        found = daemon.get("/v1/runs/run-1/checkpoints")
        seen.clear()
        seen.update({one["step"]: f"{one['state']} {one['reason']}" for one in found if one["state"] != "committed"})
        return len(found) == len(contents) and not seen

    try:
        daemon.until(all_committed, "everything committed", timeout=40)
    except AssertionError as exception:
        raise AssertionError(f"not committed: {seen} {exception}") from exception
    there = objects(daemon.remote)
    assert there.keys() == {f"run-1/checkpoint-{step}/{name}" for step in contents for name in ("model.bin", "DONE")}
    for step, content in contents.items():
        assert there[f"run-1/checkpoint-{step}/model.bin"] == content, step
        assert manifest_path(daemon, "run-1", step).exists()
    newest = max(contents)
    # The tiers were too small for what waited to be uploaded: files of the newest two may have had to go, no others stay.
    daemon.until(
        lambda: all(
            set(one["tiers"]) <= {newest: {"ram"}, newest - 1: {"nvme"}}.get(one["step"], set())
            for one in daemon.get("/v1/runs/run-1/checkpoints")
        ),
        "tiers as the policy asks",
    )
    for step in (newest, newest - 1):
        daemon.ctl("prefetch", f"run-1@{step}")
        assert (run / f"checkpoint-{step}/model.bin").read_bytes() == contents[step]
    assert leftovers(daemon.volume.resolve()) == []
    assert list((daemon.ram / "staging").iterdir()) == list((daemon.home / "nvme/staging").iterdir()) == []
    old = random.Random(1).choice(sorted(contents)[:-2])
    daemon.ctl("prefetch", f"run-1@{old}")
    assert (run / f"checkpoint-{old}/model.bin").read_bytes() == contents[old]
    assert daemon.json("status")["exposure"] == {"bytes": 0, "files": 0, "oldest_s": None}
    assert not {"file.lost", "tier.lost", "copy.quarantined"} & {event["event"] for event in daemon.json("events")}


def test_a_daemon_that_is_gone_altogether_goes_on_at_the_next_start(daemon: Daemon) -> None:
    run = daemon.volume / "run-1"
    save(run / "checkpoint-1", {"model.bin": b"1" * MIB, "DONE": b""})
    daemon.committed("run-1", 1)
    daemon.crash()
    save(run / "checkpoint-2", {"model.bin": b"2" * MIB, "DONE": b""})
    (run / "checkpoint-1/model.bin").write_bytes(b"3" * MIB)
    (run / "checkpoint-1/DONE").write_bytes(b"")
    daemon.ctl("status", check=3)
    daemon.start()
    daemon.committed("run-1", 2)
    daemon.until(
        lambda: objects(daemon.remote)["run-1/checkpoint-1/model.bin"] == b"3" * MIB, "written while it was away"
    )
    daemon.committed("run-1", 1)


def test_a_worker_that_hangs_is_replaced_and_what_it_was_to_send_is_sent(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(environment={"WATCHDOG_USEC": "15000000"})  # it may be silent for 5 s
    daemon.start()
    first = daemon.worker_pid()
    os.kill(first, signal.SIGSTOP)
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"m" * MIB, "trainer_state.json": b"{}"})
    assert daemon.worker_pid() != first  # the question waits for an answer
    daemon.committed("run-1", 1)
    [event] = [event for event in daemon.json("events") if event["event"] == "worker.restarted"]
    assert "did not answer for 5 s and was killed" in event["message"]
