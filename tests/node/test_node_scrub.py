"""The background check: it finds what nobody reads, survives kills, keeps out of the way and says how far it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import flip, manifest_path

NewDaemon = Callable[..., Daemon]
OFTEN = '[scrub]\nevery = "1s"\nbandwidth = 0\nremote_bandwidth = "1GiB"'
MODEL = "run-1/checkpoint-{}/model.bin"


def saved(daemon: Daemon, step: int, size: int = MIB) -> bytes:
    content = os.urandom(size)
    save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": content, "config.json": b"{}", "DONE": b""})
    daemon.committed("run-1", step)
    return content


def events(daemon: Daemon) -> list[str]:
    return [event["event"] for event in daemon.json("events")]


def scrubbed(daemon: Daemon) -> int:
    return int(daemon.get("/v1/status")["scrub"]["checked_files"])


def content_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def test_it_finds_and_replaces_what_nobody_reads(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(extra=OFTEN)
    daemon.start()
    content = saved(daemon, 1)
    here, there = (daemon.volume / MODEL.format(1)).resolve(), daemon.remote / MODEL.format(1)
    flip(here)
    # Between the bad copy's way to the quarantine and the good one's to its place there is none.
    daemon.until(lambda: content_of(here) == content, "the copy in RAM is good again", timeout=60)
    daemon.until(lambda: "copy.quarantined" in events(daemon), "told")
    flip(there)
    daemon.until(lambda: there.read_bytes() == content, "the object is good again", timeout=60)
    daemon.committed("run-1", 1)
    daemon.until(lambda: "checkpoint.quarantined" in events(daemon), "told")
    status = daemon.get("/v1/status")["scrub"]
    assert status["bad"] >= 2
    assert status["checked_files"] > 0
    assert status["every_s"] == 1.0


def test_what_was_read_lately_is_not_read_again_after_a_restart(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(extra='[scrub]\nevery = "3s"\nbandwidth = 0\nremote_bandwidth = 0')
    daemon.start()
    saved(daemon, 1)
    daemon.until(lambda: scrubbed(daemon) >= 6, "three files in RAM and three objects", timeout=60)
    daemon.crash()
    daemon.config.write_text(daemon.config.read_text().replace('every = "3s"', 'every = "1h"'))
    daemon.start()
    daemon.ctl("flush")
    assert scrubbed(daemon) == 0
    assert daemon.get("/v1/status")["scrub"]["due_files"] == 0


def test_a_prefix_that_somebody_emptied_is_filled_again_and_what_is_lost_is_said(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(extra=OFTEN)
    daemon.start()
    saved(daemon, 1)
    content = saved(daemon, 2)
    daemon.ctl("evict", "run-1@1")
    shutil.rmtree(daemon.remote / "run-1")
    torn = daemon.state_is("run-1", 1, "torn", timeout=60)
    assert "run-1/checkpoint-1/" in torn["reason"]
    daemon.until((daemon.remote / MODEL.format(2)).exists, "sent again", timeout=60)
    daemon.committed("run-1", 2)
    assert (daemon.remote / MODEL.format(2)).read_bytes() == content
    assert daemon.json("latest", "run-1")["step"] == 2


def test_a_checkpoint_that_is_partly_here_never_becomes_a_smaller_one(new_daemon: NewDaemon) -> None:
    daemon = new_daemon()
    daemon.start()
    saved(daemon, 1)
    daemon.ctl("evict", "run-1@1")
    daemon.ctl("prefetch", "run-1@1", "--match", "config.json")
    shutil.rmtree(daemon.remote / "run-1")
    shutil.rmtree(daemon.remote / ".ckptd/manifests")
    assert "model.bin" in daemon.state_is("run-1", 1, "lost", timeout=60)["reason"]
    assert not manifest_path(daemon, "run-1", 1).exists()
    daemon.ctl("latest", "run-1", check=4)


def test_a_kill_in_the_middle_of_a_repair_is_gone_on_from(new_daemon: NewDaemon) -> None:
    """The checkpoint is two nodes' in turn: what is bad is sent by one that did not commit it, slowly."""
    owner = new_daemon(node="a")
    owner.start()
    content = saved(owner, 1, 8 * MIB)
    helper = new_daemon(node="b", remote=owner.remote_url, transfer='bandwidth = "3MiB"\npart_size = "5MiB"')
    helper.start()
    helper.ctl("prefetch", "run-1@1")
    owner.ctl("evict", "run-1@1")
    bad = owner.remote / MODEL.format(1)
    bad.unlink()
    aside = manifest_path(owner, "run-1", 1)
    aside = aside.with_name(aside.name + ".quarantined")
    helper.ctl("verify", "run-1@1", "--remote", "--no-wait")
    helper.until(aside.exists, "the manifest is put aside", timeout=60)
    helper.crash()
    assert not bad.exists()
    assert not manifest_path(owner, "run-1", 1).exists()
    owner.ctl("latest", "run-1", check=4)
    helper.start()
    helper.until(manifest_path(owner, "run-1", 1).exists, "the manifest is back", timeout=60)
    assert bad.read_bytes() == content
    assert not aside.exists()
    owner.committed("run-1", 1)
    owner.ctl("verify", "run-1@1", "--remote")
    assert Path(owner.json("prefetch", "run-1@1")["result"], "model.bin").read_bytes() == content


def test_asked_for_it_reads_all_that_is_named(daemon: Daemon) -> None:
    saved(daemon, 1)
    content = saved(daemon, 2)
    done = daemon.json("scrub", "run-1@1", "--remote")
    assert (done["state"], done["bytes_total"]) == ("done", 2 * (MIB + 2))
    flip((daemon.volume / MODEL.format(2)).resolve())
    daemon.ctl("scrub", "run-1@1")
    assert MODEL.format(2) in daemon.ctl("scrub", check=6).stderr
    assert (daemon.volume / MODEL.format(2)).read_bytes() == content
    daemon.ctl("scrub", "--remote")
    daemon.ctl("scrub", "run-9", check=4)
    assert daemon.ctl("scrub", "--no-wait").stdout
