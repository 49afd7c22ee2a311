"""Two nodes on one remote: neither believes for ever what it once sent, and neither takes away what the other committed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests_node_daemon import Daemon, save
from tests_node_remote import objects

NewDaemon = Callable[..., Daemon]


def manifests(daemon: Daemon, step: int) -> list[str]:
    return sorted(path.name for path in (daemon.remote / f".ckptd/manifests/run-1/{step}").glob("*"))


def two(new_daemon: NewDaemon, **settings: str) -> tuple[Daemon, Daemon]:
    first = new_daemon(node="a", **settings)
    second = new_daemon(node="b", remote=first.remote_url, **settings)
    first.start()
    second.start()
    return first, second


def save_step(daemon: Daemon, step: int, content: bytes) -> None:
    save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": content, "config.json": b"{}"})


def test_what_another_node_committed_anew_is_not_replaced_by_what_is_older_here(new_daemon: NewDaemon) -> None:
    a, b = two(new_daemon)
    save_step(b, 1, b"b" * 10_000)
    b.committed("run-1", 1)
    a.ctl("ls")
    save_step(a, 1, b"a" * 12_000)
    a.until(lambda: manifests(a, 1) == ["a.json"], "the newer save is committed")
    torn = b.state_is("run-1", 1, "torn")
    assert "node a committed this step anew" in torn["reason"]
    time.sleep(1)
    assert manifests(a, 1) == ["a.json"]
    assert (a.remote / "run-1/checkpoint-1/model.bin").read_bytes() == b"a" * 12_000
    b.ctl("rm", "run-1@1", "--yes")
    b.ctl("prefetch", "run-1")
    assert (b.volume / "run-1/checkpoint-1/model.bin").read_bytes() == b"a" * 12_000


def test_what_another_node_removed_is_an_only_copy_here(new_daemon: NewDaemon) -> None:
    a, b = two(new_daemon)
    save_step(b, 1, b"b" * 10_000)
    b.committed("run-1", 1)
    a.ctl("rm", "run-1@1", "--remote", "--yes")
    assert objects(a.remote) == {}
    b.ctl("evict", "run-1@1", check=6)
    assert (b.volume / "run-1/checkpoint-1/model.bin").read_bytes() == b"b" * 10_000
    b.ctl("flush", "run-1@1")
    assert (a.remote / "run-1/checkpoint-1/model.bin").read_bytes() == b"b" * 10_000
    assert manifests(a, 1) == ["b.json"]


def test_only_the_node_that_committed_a_checkpoint_prunes_it(new_daemon: NewDaemon) -> None:
    a, b = two(new_daemon, policy="keep_remote = 1")
    for step in (1, 2):
        save_step(b, step, b"%d" % step * 1000)
        b.committed("run-1", step)
    a.ctl("ls", "run-1")
    time.sleep(1.5)
    assert manifests(a, 1) == ["b.json"]


def test_what_an_unfinished_save_left_is_not_deleted_from_under_another_node(new_daemon: NewDaemon) -> None:
    a, b = two(new_daemon)
    save(a.volume / "run-1/checkpoint-1", {"model.bin": b"a" * 1000, ".tmp-rest": b""})
    a.until((a.remote / "run-1/checkpoint-1/model.bin").exists, "the unfinished save's file is sent")
    for name in ("model.bin", ".tmp-rest"):
        (a.volume / "run-1/checkpoint-1" / name).unlink()
    save_step(b, 1, b"b" * 1000)
    b.committed("run-1", 1)
    time.sleep(12)  # the sweep of what nobody describes comes every ten seconds
    assert (b.remote / "run-1/checkpoint-1/model.bin").read_bytes() == b"b" * 1000


def test_a_volume_with_another_remote_is_sent_there_anew(daemon: Daemon, tmp_path: Path) -> None:
    save_step(daemon, 1, b"1" * 1000)
    daemon.committed("run-1", 1)
    assert daemon.terminate() == 0
    other = tmp_path / "other"
    daemon.config.write_text(daemon.config.read_text().replace(daemon.remote_url, f"file://{other}"))
    daemon.remote_url = f"file://{other}"
    daemon.start()
    daemon.committed("run-1", 1)
    assert set(objects(other)) == {"run-1/checkpoint-1/model.bin", "run-1/checkpoint-1/config.json"}
    daemon.ctl("verify", "run-1@1", "--remote")
    assert "remote.changed" in [event["event"] for event in daemon.json("events")]
