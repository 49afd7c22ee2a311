"""Jobs that rename, rewrite and mix their checkpoints while these are on their way: nothing is lost, nothing mixed."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Callable

from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import objects

SLOW = 'bandwidth = "6MiB"\npart_size = "5MiB"'


def states(daemon: Daemon, run: str = "run-1") -> dict[int, tuple[str, str]]:
    return {one["step"]: (one["state"], one["framework"]) for one in daemon.get(f"/v1/runs/{run}/checkpoints")}


def test_a_step_directory_renamed_while_it_is_sent(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(transfer=SLOW)
    daemon.start()
    run = daemon.volume / "run-1"
    files = {"model.bin": os.urandom(12 * MIB), "optimizer.bin": os.urandom(7 * MIB), "DONE": b""}
    save(run / "checkpoint-1", files)
    daemon.until(lambda: daemon.json("status")["transfers"]["upload_bytes_per_s"] > 0, "it is being sent")
    (run / "checkpoint-1").rename(run / "checkpoint-2")
    daemon.until(lambda: daemon.json("status")["transfers"]["upload_bytes_per_s"] > 0, "it is being sent anew")
    (daemon.volume / "run-2").mkdir()
    (run / "checkpoint-2").rename(daemon.volume / "run-2/checkpoint-3")
    daemon.committed("run-2", 3, timeout=60)
    daemon.ctl("flush")
    expected = {f"run-2/checkpoint-3/{name}": content for name, content in files.items()}
    daemon.until(lambda: objects(daemon.remote) == expected, "only what is there now is in the remote")
    assert daemon.json("status")["exposure"]["files"] == 0


def test_a_directory_that_changes_its_name_all_the_time(daemon: Daemon) -> None:
    run = daemon.volume / "run-1"
    content = os.urandom(MIB)
    save(run / "checkpoint-0", {"model.bin": content, "DONE": b""})
    last, chance = 0, random.Random(7)
    for step in range(1, 25):
        (run / f"checkpoint-{last}").rename(run / f"checkpoint-{step}")
        last = step
        daemon.until(lambda step=step: daemon.checkpoint("run-1", step) is not None, "it is seen")
        if chance.random() < 0.3:
            daemon.committed("run-1", last)
    daemon.committed("run-1", last)
    # What was committed under an earlier name stays what it was; whatever is offered is whole.
    there = objects(daemon.remote)
    for step, (state, _) in states(daemon).items():
        assert state == "committed", (step, state)
        assert there[f"run-1/checkpoint-{step}/model.bin"] == content
    assert daemon.json("latest", "run-1")["step"] == last


def test_the_same_step_written_again_and_again(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(transfer=SLOW)
    daemon.start()
    step = daemon.volume / "run-1/checkpoint-5"
    content = b""
    for number in range(8):
        content = bytes([number]) * (6 * MIB)
        save(step, {"model.bin": content, "DONE": b""})
    key = "run-1/checkpoint-5/model.bin"
    daemon.until(lambda: objects(daemon.remote).get(key) == content, "the last one is sent", timeout=60)
    daemon.committed("run-1", 5)
    daemon.ctl("verify", "run-1@5", "--remote")


def test_a_checkpoint_of_no_files_is_none(daemon: Daemon) -> None:
    run = daemon.volume / "run-1"
    save(run / "checkpoint-1", {"model.bin": b"m" * 100, "DONE": b""})
    (run / "checkpoint-2/empty/deeper").mkdir(parents=True)
    save(run / "checkpoint-3", {"DONE": b""})
    daemon.committed("run-1", 1)
    daemon.until(lambda: states(daemon).get(3, ("",))[0] == "torn", "3 has nothing to restore")
    assert "nothing but" in daemon.checkpoint("run-1", 3)["reason"]
    assert set(states(daemon)) == {1, 3}
    assert daemon.json("latest", "run-1")["step"] == 1
    daemon.ctl("flush", timeout=30)


def test_two_frameworks_in_one_run(daemon: Daemon) -> None:
    run = daemon.volume / "run-1"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("data.pkl", b"x")
    trainer = {"pytorch_model.bin": archive.getvalue(), "trainer_state.json": b"{}"}
    save(run / "checkpoint-5", trainer)
    save(run, {"step_6.pt": archive.getvalue()})
    save(run / "global_step7", {"mp_rank_00_model_states.pt": archive.getvalue()})
    save(run, {"latest": b"global_step7"})
    for step, framework in ((5, "hf-trainer"), (6, "torch"), (7, "deepspeed")):
        daemon.committed("run-1", step)
        assert states(daemon)[step] == ("committed", framework)
    # A run that lost files of one kind says so of that kind only.
    save(run / "checkpoint-8", {"trainer_state.json": b"{"})
    daemon.until(lambda: states(daemon).get(8, ("",))[0] == "torn", "8 is torn")
    assert daemon.json("latest", "run-1")["step"] == 7
