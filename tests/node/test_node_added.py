"""Files that somebody adds to a checkpoint after it was committed: it is offered all the time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_node_daemon import Daemon, save
from tests_node_remote import Watching, manifest_path

NewDaemon = Callable[..., Daemon]
SAVED = {"model.bin": os.urandom(3000), "optimizer.pt": os.urandom(100), "trainer_state.json": b"{}"}


@pytest.fixture
def saved(new_daemon: NewDaemon, tmp_path: Path) -> Daemon:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", policy='sync = "all"')
    daemon.start()
    save(daemon.volume / "run/checkpoint-5", SAVED)
    daemon.committed("run", 5)
    return daemon


def described(daemon: Daemon) -> set[str]:
    """Names in the manifest of the checkpoint, whoever wrote it."""
    found = list((daemon.remote / ".ckptd/manifests/run/5").glob("*.json"))
    return {
        file["key"].removeprefix("run/checkpoint-5/") for one in found for file in json.loads(one.read_text())["files"]
    }


def complaint(daemon: Daemon) -> str | None:
    if not any((daemon.remote / ".ckptd/manifests/run/5").glob("*.json")):
        return "no manifest in the remote"
    found = daemon.checkpoint("run", 5)
    return None if found and found["state"] == "committed" else f"here it is {found and found['state']}"


@pytest.mark.parametrize("name", ["merged/pytorch_model.bin", "eval.json", "preds.npz", ".done", "plots/loss.png"])
def test_it_stays_committed_until_the_manifest_with_the_added_file_replaces_the_old_one(
    saved: Daemon, name: str
) -> None:
    with Watching(lambda: complaint(saved)) as watching:
        save(saved.volume / "run/checkpoint-5", {name: b"{}"} if not name.endswith("npz") else {name: EMPTY_ZIP})
        saved.until(lambda: name in described(saved), "it is in the manifest")
        saved.ctl("flush", "run@5")
    assert watching.looks > 0
    assert described(saved) == {*SAVED, name}
    assert not any(event["event"] == "checkpoint.uncommitted" for event in saved.json("events"))
    saved.ctl("verify", "run@5", "--remote")


EMPTY_ZIP = b"PK\x05\x06" + bytes(18)


def test_what_is_added_but_not_whole_is_left_out(saved: Daemon) -> None:
    before = manifest_path(saved, "run", 5).read_bytes()
    with Watching(lambda: complaint(saved)):
        save(saved.volume / "run/checkpoint-5", {"merged/model.safetensors": b"\xff\x00\x00\x00\x00\x00\x00\x00{"})
        saved.until(lambda: (saved.checkpoint("run", 5) or {}).get("reason"), "it says so")
    assert "model.safetensors" in saved.checkpoint("run", 5)["reason"]  # type: ignore[index]
    assert manifest_path(saved, "run", 5).read_bytes() == before


def test_a_changed_member_takes_the_manifest_back_also_where_something_was_added(saved: Daemon) -> None:
    save(saved.volume / "run/checkpoint-5", {"eval.json": b"{}"})
    saved.until(lambda: "eval.json" in described(saved), "added")
    save(saved.volume / "run/checkpoint-5", {**SAVED, "model.bin": os.urandom(3000), "trainer_state.json": b"[]"})
    saved.until(lambda: "checkpoint.uncommitted" in saved.log, "taken back")
    saved.committed("run", 5)
    assert described(saved) == {*SAVED, "eval.json"}


def test_what_another_node_adds_is_in_one_manifest_that_takes_the_place_of_the_first(
    saved: Daemon, new_daemon: NewDaemon
) -> None:
    other = new_daemon(remote=saved.remote_url, policy='sync = "all"')
    other.start()
    assert other.json("prefetch", "run@5")["state"] == "done"
    with Watching(lambda: complaint(other)):
        save(other.volume / "run/checkpoint-5", {"eval.json": b"{}"})
        other.until(lambda: manifest_path(other, "run", 5).exists(), "its own manifest")
        other.until(lambda: not manifest_path(saved, "run", 5).exists(), "the first one went")
    assert described(other) == {*SAVED, "eval.json"}
    saved.terminate()
    saved.start()
    assert saved.committed("run", 5)["files"] == len(SAVED) + 1
    other.ctl("verify", "run@5", "--remote")


def test_a_commit_that_waits_for_an_open_file_says_which(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(policy='sync = "all"')
    daemon.start()
    directory = daemon.volume / "run/checkpoint-5"
    save(directory, {"model.bin": b"weights"})
    daemon.until(lambda: (daemon.checkpoint("run", 5) or {}).get("durable_bytes"), "it is sent")
    with (directory / "model.bin").open("r+b"):
        save(directory, {"DONE": b""})
        daemon.until(lambda: "commit.waits" in daemon.log, "it says so")
        assert "run/checkpoint-5/model.bin: somebody has it open for writing" in daemon.log
    daemon.committed("run", 5)
