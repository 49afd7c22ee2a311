"""Tags and the job's links: what they name is kept, on every node, whatever the policy says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests_node_daemon import Daemon, save
from tests_node_remote import away, objects

SMALL = "keep_hot = 1\nkeep_nvme = 1\n"


def saved(daemon: Daemon, *steps: int, run: str = "run-1") -> None:
    for step in steps:
        save(daemon.volume / f"{run}/checkpoint-{step}", {"model.bin": b"%d" % step * 1000, "DONE": b""})
        daemon.committed(run, step)


def in_remote(daemon: Daemon) -> set[str]:
    return {path.split("/")[1] for path in objects(daemon.remote) if "checkpoint-" in path}


def tag_object(daemon: Daemon, name: str) -> Path:
    return daemon.remote / f".ckptd/tags/run-1/{name}"


def test_a_tag_is_seen_on_another_node_and_names_its_step_there(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    one = new_daemon(remote=f"file://{tmp_path}/remote")
    other = new_daemon(remote=f"file://{tmp_path}/remote")
    one.start()
    other.start()
    saved(one, 1, 2)
    one.ctl("tag", "run-1@1", "best")
    assert json.loads(tag_object(one, "best").read_text()).keys() == {"step", "by", "at"}
    seen = other.json("tags", "run-1")
    assert [(tag["name"], tag["step"], tag["by"], tag["sent"]) for tag in seen] == [("best", 1, one.node, True)]
    out = tmp_path / "out"
    other.ctl("restore", "run-1@best", str(out))
    assert (out / "model.bin").read_bytes() == b"1" * 1000
    other.ctl("prefetch", "run-1@best")
    assert (other.volume / "run-1/checkpoint-1/model.bin").exists()
    assert other.ctl("latest", "run-1@best").stdout.strip() == str(other.volume / "run-1/checkpoint-1")
    other.ctl("tag", "run-1@2", "best")
    assert one.json("ls", "run-1@best")[0]["step"] == 2
    assert [one_["tags"] for one_ in one.json("ls", "run-1")] == [["best"], []]
    one.ctl("tag", "run-1", "best", "--delete")
    assert other.json("tags", "run-1") == []
    assert "no tag 'best'" in other.ctl("verify", "run-1@best", check=4).stderr
    assert not tag_object(one, "best").exists()


def test_a_tag_that_is_set_while_the_remote_is_away_holds_here_and_is_sent_later(daemon: Daemon) -> None:
    saved(daemon, 1, 2)
    daemon.ctl("tag", "run-1@2", "old")
    with away(daemon):
        assert "when it does" in daemon.ctl("tag", "run-1@1", "best").stderr
        daemon.ctl("tag", "run-1", "old", "--delete")
        assert [(tag["name"], tag["sent"]) for tag in daemon.json("tags", "run-1")] == [("best", False)]
        daemon.ctl("verify", "run-1@best")
        daemon.crash()
    daemon.start()
    assert daemon.json("ls", "run-1@best")[0]["step"] == 1
    daemon.until(lambda: tag_object(daemon, "best").exists() and not tag_object(daemon, "old").exists(), "told")
    daemon.until(lambda: [tag["sent"] for tag in daemon.json("tags")] == [True], "known to be told")


def test_a_delayed_tag_gives_way_to_one_that_was_set_later_elsewhere(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    one = new_daemon(remote=f"file://{tmp_path}/remote")
    other = new_daemon(remote=f"file://{tmp_path}/remote")
    one.start()
    saved(one, 1, 2)
    with away(one):
        one.ctl("tag", "run-1@1", "best")
        one.crash()
    other.start()
    other.ctl("tag", "run-1@2", "best")
    one.start()
    one.until(lambda: [(tag["step"], tag["sent"]) for tag in one.json("tags")] == [(2, True)], "the later one holds")
    assert json.loads(tag_object(other, "best").read_text())["step"] == 2


def test_tags_come_back_with_a_lost_catalog(daemon: Daemon) -> None:
    saved(daemon, 1)
    daemon.ctl("tag", "run-1@1", "best")
    daemon.terminate()
    for path in (daemon.home / "state").glob("catalog.db*"):
        path.unlink()
    daemon.start()
    assert [(tag["name"], tag["step"]) for tag in daemon.json("tags")] == [("best", 1)]


def test_what_others_put_among_the_tags_is_passed_over(daemon: Daemon) -> None:
    saved(daemon, 1)
    tag_object(daemon, "x").parent.mkdir(parents=True)
    for name, text in {
        "a": "", "b": "[]", "c": '{"step": "1", "by": "x", "at": "now"}', "d": '{"step": -1, "by": "x", "at": "2026-01-01"}',
        "latest": '{"step": 1, "by": "x", "at": "2026-01-01T00:00:00Z"}', "e": "[" * 4000, "sub/f": "{}",
    }.items():  # fmt: skip
        tag_object(daemon, name).parent.mkdir(parents=True, exist_ok=True)
        tag_object(daemon, name).write_text(text)
    tag_object(daemon, "good").write_text('{"step": 1, "by": "somebody", "at": "2026-01-01T00:00:00Z"}')
    assert [(tag["name"], tag["by"]) for tag in daemon.json("tags", "run-1")] == [("good", "somebody")]


def test_tags_links_and_pointers_keep_checkpoints_in_the_remote(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=SMALL)
    daemon.start()
    saved(daemon, 1, 2, 3, 4)
    daemon.ctl("tag", "run-1@1", "paper")
    os.symlink("checkpoint-2/model.bin", daemon.volume / "run-1/best.bin")
    daemon.until(lambda: daemon.checkpoint("run-1", 2)["protected"] == ["link:best.bin"], "the link was seen")
    daemon.ctl("policy", "set", "run-1", "keep_remote=1")
    daemon.until(lambda: in_remote(daemon) == {"checkpoint-1", "checkpoint-2", "checkpoint-4"}, "3 is pruned")
    shown = {one["step"]: one["protected"] for one in daemon.json("ls", "run-1")}
    assert shown == {4: [], 2: ["link:best.bin"], 1: ["tag:paper"]}
    os.unlink(daemon.volume / "run-1/best.bin")
    daemon.until(lambda: in_remote(daemon) == {"checkpoint-1", "checkpoint-4"}, "2 is pruned")
    daemon.ctl("tag", "run-1", "paper", "-d")
    daemon.until(lambda: in_remote(daemon) == {"checkpoint-4"}, "1 is pruned")


def test_a_tag_that_another_node_has_set_is_asked_for_before_pruning(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    one = new_daemon(remote=f"file://{tmp_path}/remote", policy=SMALL)
    other = new_daemon(remote=f"file://{tmp_path}/remote")
    one.start()
    other.start()
    saved(one, 1, 2, 3)
    other.ctl("tag", "run-1@1", "keep")
    # `one` was told nothing: its catalog does not know the tag when it plans.
    one.ctl("policy", "set", "run-1", "keep_remote=1")
    one.until(lambda: in_remote(one) == {"checkpoint-1", "checkpoint-3"}, "2 is pruned, 1 is not")
    assert [tag["name"] for tag in one.json("tags")] == ["keep"]
    one.ctl("flush")
    assert in_remote(one) == {"checkpoint-1", "checkpoint-3"}


def test_sync_latest_does_not_skip_what_is_tagged_or_flushed_by_name(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy='sync = "latest"\nkeep_hot = 9\nkeep_nvme = 9')
    daemon.start()
    saved(daemon, 1)
    with away(daemon):
        for step in (2, 3, 4, 5):
            save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": b"%d" % step * 1000, "DONE": b""})
            daemon.state_is("run-1", step, "complete")
        daemon.ctl("tag", "run-1@3", "best")
    daemon.committed("run-1", 5)
    daemon.committed("run-1", 3)
    assert daemon.checkpoint("run-1", 2)["skipped"]
    assert in_remote(daemon) == {"checkpoint-1", "checkpoint-3", "checkpoint-5"}
    daemon.ctl("flush", "run-1")
    assert daemon.checkpoint("run-1", 2)["skipped"], "a flush of the run leaves what is skipped"
    daemon.ctl("flush", "run-1@2")
    assert daemon.checkpoint("run-1", 2)["state"] == "committed"
    assert daemon.checkpoint("run-1", 4)["skipped"]
    assert daemon.checkpoint("run-1", 2)["protected"] == []
