"""Bytes that are not what they were, in a tier or in the remote: found, put aside, replaced, and never offered."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import flip, manifest_path, objects

NewDaemon = Callable[..., Daemon]
MODEL = "run-1/checkpoint-{}/model.bin"


def saved(daemon: Daemon, step: int, size: int = MIB) -> bytes:
    content = os.urandom(size)
    save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": content, "config.json": b"{}", "DONE": b""})
    daemon.committed("run-1", step)
    return content


def events(daemon: Daemon) -> set[str]:
    return {event["event"] for event in daemon.json("events")}


def aside(daemon: Daemon, step: int) -> Path:
    path = manifest_path(daemon, "run-1", step)
    return path.with_name(path.name + ".quarantined")


def test_a_bad_object_is_replaced_by_the_good_copy_here(daemon: Daemon) -> None:
    content = saved(daemon, 1)
    flip(daemon.remote / MODEL.format(1))
    refused = daemon.ctl("verify", "run-1@1", "--remote", check=6)
    assert MODEL.format(1) in refused.stderr
    assert "sent again from the good copy here" in refused.stderr
    daemon.committed("run-1", 1)
    assert (daemon.remote / MODEL.format(1)).read_bytes() == content
    assert manifest_path(daemon, "run-1", 1).exists()
    assert not aside(daemon, 1).exists()
    assert {"remote.bad", "checkpoint.quarantined"} <= events(daemon)
    daemon.ctl("verify", "run-1@1", "--remote")


def test_a_checkpoint_of_which_no_good_copy_is_left_is_torn_on_every_node(new_daemon: NewDaemon) -> None:
    first = new_daemon(node="a")
    other = new_daemon(node="b", remote=first.remote_url)
    first.start()
    other.start()
    saved(first, 1)
    content = saved(first, 2)
    other.committed("run-1", 2)
    first.ctl("evict", "run-1@2")
    bad = first.remote / MODEL.format(2)
    flip(bad)
    damaged = bad.read_bytes()
    refused = first.ctl("verify", "run-1@2", "--remote", check=6)
    assert "no good copy is here" in refused.stderr
    for node in (first, other):
        torn = node.state_is("run-1", 2, "torn")
        assert MODEL.format(2) in torn["reason"]
        assert node.json("latest", "run-1")["step"] == 1
        assert MODEL.format(2) in node.ctl("prefetch", "run-1@2", check=6).stderr
        assert node.json("prefetch", "run-1")["result"].endswith("checkpoint-1")
    assert bad.read_bytes() == damaged, "what might be of use stays"
    assert aside(first, 2).exists()
    assert not manifest_path(first, "run-1", 2).exists()
    # Somebody finds a good one, on a node that never had the checkpoint.
    bad.write_bytes(content)
    other.ctl("scrub", "run-1@2", "--remote")
    for node in (first, other):
        node.committed("run-1", 2)
    first.ctl("prefetch", "run-1@2")
    assert (first.volume / MODEL.format(2)).read_bytes() == content
    assert not aside(first, 2).exists()


def test_an_object_that_was_deleted_is_sent_again(daemon: Daemon) -> None:
    content = saved(daemon, 1)
    (daemon.remote / MODEL.format(1)).unlink()
    assert MODEL.format(1) in daemon.ctl("verify", "run-1@1", "--remote", check=6).stderr
    daemon.committed("run-1", 1)
    assert (daemon.remote / MODEL.format(1)).read_bytes() == content


def test_another_version_of_an_object_with_the_same_bytes_is_fine(daemon: Daemon) -> None:
    content = saved(daemon, 1)
    path = daemon.remote / MODEL.format(1)
    path.unlink()
    path.write_bytes(content)
    daemon.ctl("verify", "run-1@1", "--remote")
    daemon.ctl("evict", "run-1@1")
    daemon.ctl("prefetch", "run-1@1")
    assert (daemon.volume / MODEL.format(1)).read_bytes() == content
    assert not {"remote.bad", "copy.gone"} & events(daemon)


def test_a_bad_copy_here_stays_in_place_while_there_is_no_good_one(daemon: Daemon) -> None:
    saved(daemon, 1)
    saved(daemon, 2)
    here, there = (daemon.volume / MODEL.format(2)).resolve(), daemon.remote / MODEL.format(2)
    flip(here)
    flip(there)
    damaged = here.read_bytes()
    refused = daemon.ctl("verify", "run-1@2", "--remote", check=6)
    assert "no good copy" in refused.stderr
    assert "model.bin" in daemon.state_is("run-1", 2, "torn")["reason"]
    assert daemon.json("latest", "run-1")["step"] == 1
    assert here.read_bytes() == damaged
    assert there.read_bytes() == damaged
    assert not manifest_path(daemon, "run-1", 2).exists()
    assert {"copy.bad", "checkpoint.quarantined"} <= events(daemon)
    assert MODEL.format(2) in objects(daemon.remote)


def test_a_fetch_of_what_others_deleted_leaves_nothing_and_names_the_next_best(new_daemon: NewDaemon) -> None:
    first = new_daemon(node="a")
    other = new_daemon(node="b", remote=first.remote_url)
    first.start()
    for step in (1, 2):
        saved(first, step)
    first.ctl("evict", "run-1")
    (first.remote / MODEL.format(2)).unlink()
    other.start()
    out = other.home / "out"
    refused = other.ctl("restore", "run-1@2", str(out), check=6)
    assert MODEL.format(2) in refused.stderr
    assert "the next best is run-1@1" in refused.stderr
    assert objects(out) == {}
    assert MODEL.format(2) in other.state_is("run-1", 2, "torn")["reason"]


def test_a_prefetch_of_what_others_changed_leaves_nothing_in_the_volume(new_daemon: NewDaemon) -> None:
    first = new_daemon(node="a")
    other = new_daemon(node="b", remote=first.remote_url)
    first.start()
    for step in (1, 2):
        saved(first, step)
    first.ctl("evict", "run-1")
    (first.remote / MODEL.format(2)).write_bytes(b"other bytes, and fewer")
    other.start()
    refused = other.ctl("prefetch", "run-1", check=6)
    assert MODEL.format(2) in refused.stderr
    assert "the next best is run-1@1" in refused.stderr
    assert not (other.volume / "run-1/checkpoint-2").exists()
    other.ctl("prefetch", "run-1")
    assert (other.volume / MODEL.format(1)).exists()
    assert first.state_is("run-1", 2, "torn")["reason"]


def test_a_bad_copy_on_nvme_is_replaced_on_the_way_back_to_ram(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(policy="keep_hot = 0")
    daemon.start()
    content = saved(daemon, 1)
    path = daemon.volume / MODEL.format(1)
    daemon.until(path.is_symlink, "demoted")
    daemon.terminate()
    flip(path.resolve())  # while nobody watches: a write that is seen is the job's
    daemon.start()
    assert daemon.json("prefetch", "run-1@1", "--to", "ram")["state"] == "done"
    assert path.read_bytes() == content
    assert "copy.quarantined" in events(daemon)


def test_a_bad_copy_here_is_not_sent_in_place_of_a_bad_object(new_daemon: NewDaemon) -> None:
    """Another node finds the object bad; this one has a copy, which went bad too."""
    owner = new_daemon(node="a")
    other = new_daemon(node="b", remote=owner.remote_url)
    owner.start()
    saved(owner, 1)
    saved(owner, 2)
    there = owner.remote / MODEL.format(2)
    flip(there, at=1)
    flip((owner.volume / MODEL.format(2)).resolve(), at=2)
    damaged = there.read_bytes()
    other.start()
    other.ctl("prefetch", "run-1@2", check=6)
    assert "model.bin" in owner.state_is("run-1", 2, "torn")["reason"]
    owner.until(lambda: "copy.bad" in events(owner), "told")
    assert there.read_bytes() == damaged
    assert not manifest_path(owner, "run-1", 2).exists()
    for node in (owner, other):
        assert node.json("latest", "run-1")["step"] == 1
