"""Several nodes write one checkpoint: each daemon in a network namespace of its own, all on one remote."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests_node_bucket import Bucket, options
from tests_node_daemon import Daemon, save
from tests_node_island import PORT, Island
from tests_node_remote import objects

NewDaemon = Callable[..., Daemon]
NewIsland = Callable[..., Island]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are root's to make")

RANK = "model_world_size_{world}_rank_{rank}.pt"


@pytest.fixture
def new_island(tmp_path: Path) -> Iterator[NewIsland]:
    with contextlib.ExitStack() as stack:
        yield lambda port=None: stack.enter_context(Island(tmp_path, port))


@pytest.fixture
def new_node(new_island: NewIsland, new_daemon: NewDaemon, tmp_path: Path) -> NewDaemon:
    """A node that serves, on the shared `file://` remote."""

    def make(name: str, policy: str = "", **settings: Any) -> Daemon:
        daemon = new_daemon(
            node=name, remote=f"file://{tmp_path}/remote", policy=policy, prefix=new_island().prefix, **settings
        )
        daemon.start()
        return daemon

    return make


def write(daemon: Daemon, step: int, rank: int, world: int = 2, content: bytes = b"", **more: bytes) -> None:
    """What one node's ranks write of a step; the names say how many ranks there are."""
    name = RANK.format(world=world, rank=rank)
    save(daemon.volume / f"run-1/checkpoint-{step}", {name: content or b"%d" % rank * 1000, **more})


def manifests(daemon: Daemon, step: int) -> list[str]:
    return sorted(path.stem for path in (daemon.remote / f".ckptd/manifests/run-1/{step}").glob("*.json"))


def messages(daemon: Daemon, event: str) -> list[str]:
    return [one["message"] for one in daemon.json("events") if one["event"] == event]


def waits(daemon: Daemon, step: int, reason: str) -> dict[str, Any]:
    def holds() -> dict[str, Any] | None:
        found = daemon.checkpoint("run-1", step)
        return found if found and found["state"] == "writing" and reason in found["reason"] else None

    return daemon.until(holds, f"run-1@{step} waits: {reason}")


def test_a_checkpoint_of_two_nodes_is_offered_when_both_have_committed(new_node: NewDaemon) -> None:
    a, b, c = new_node("a"), new_node("b"), new_node("c")
    write(b, 1, 1)
    waits(b, 1, "1 committed")  # by the names there must be a rank 0
    waits(c, 1, "1 committed")
    assert c.ctl("latest", "run-1", check=4).stdout == ""
    assert "writing" in c.ctl("prefetch", "run-1@1", check=6).stderr
    assert "writing" in c.ctl("restore", "run-1@1", str(c.home / "out"), check=6).stderr
    write(a, 1, 0, _SUCCESS=b"")  # the marker's node comes last
    for node in (a, b, c):
        assert node.committed("run-1", 1)["files"] == 3
    c.ctl("prefetch", "run-1")
    there = {path.name: path.read_bytes() for path in (c.volume / "run-1/checkpoint-1").iterdir()}
    assert there == {RANK.format(world=2, rank=r): b"%d" % r * 1000 for r in (0, 1)} | {"_SUCCESS": b""}
    b.until(lambda: "run-1@1 is durable on all nodes: a, b" in messages(b, "checkpoint.committed"), "it is told")

    write(a, 2, 0, _SUCCESS=b"")  # the marker's node comes first
    waits(a, 2, "1 of 2 nodes committed: waits for b")  # it was there last time
    assert "1 of 2 nodes committed" in a.ctl("flush", "run-1@2", "--timeout", "2s", check=5).stderr
    assert a.json("latest", "run-1")["step"] == 1
    write(b, 2, 1)
    a.ctl("flush", "run-1@2")
    a.ctl("verify", "run-1@2", "--remote")


def test_a_node_that_is_killed_between_its_files_and_its_manifest_goes_on_where_it_was(new_node: NewDaemon) -> None:
    a, b = new_node("a"), new_node("b")
    with (b.volume / "last.bin").open("wb") as last:  # not in the step yet: what is there of it is durable soon
        write(b, 1, 1)
        (b.volume / "last.bin").rename(b.volume / "run-1/checkpoint-1/last.bin")
        last.write(b"last")
        last.flush()
        b.until((b.remote / "run-1/checkpoint-1" / RANK.format(world=2, rank=1)).exists, "its file is durable")
        b.crash()
    assert manifests(b, 1) == []
    write(a, 1, 0)
    waits(a, 1, "1 committed")
    b.start()
    a.committed("run-1", 1)
    assert b.committed("run-1", 1)["files"] == 3


def test_a_node_that_never_comes_leaves_a_torn_checkpoint(new_node: NewDaemon) -> None:
    a, b = new_node("a"), new_node("b")
    write(a, 1, 0)
    waits(a, 1, "1 committed, of an unknown number of nodes: waits for other nodes (lacks model_world_size_2_rank_1…")
    for rank, node in enumerate((a, b)):
        write(node, 2, rank)
    a.committed("run-1", 2)
    torn = a.state_is("run-1", 1, "torn")
    assert "a later step is whole" in torn["reason"]
    a.ctl("flush")
    assert "torn" in b.ctl("prefetch", "run-1@1", check=6).stderr
    write(b, 1, 1)  # and if it comes after all, it is whole
    a.committed("run-1", 1)


def test_a_job_of_eight_nodes_in_which_rank_0_writes_all_waits_for_nobody(new_node: NewDaemon) -> None:
    a = new_node("a")
    environment = {"WORLD_SIZE": "64", "LOCAL_WORLD_SIZE": "8"}
    hold(a, 1, environment, "weights.pt", "state.pt")
    a.committed("run-1", 1)
    hold(a, 2, environment, "weights.pt", "state.pt", *(f"rank_{rank}.pt" for rank in range(8)))
    assert "lacks 56 of 64 ranks" in waits(a, 2, "1 of 8 nodes")["reason"]
    a.terminate()
    a.start()  # what was seen of the job is remembered
    waits(a, 2, "1 of 8 nodes")
    a.ctl("policy", "set", "run-1", "nodes=1")
    a.committed("run-1", 2)


def hold(daemon: Daemon, step: int, environment: dict[str, str], *names: str) -> None:
    """A process of a job writes, with the launcher's variables in its environment, and takes its time."""
    folder = daemon.volume / f"run-1/checkpoint-{step}"
    script = (
        "import os, sys, time; os.makedirs(sys.argv[1], exist_ok=True)\n"
        "files = [open(os.path.join(sys.argv[1], name), 'wb') for name in sys.argv[2:]]\n"
        "[file.write(b'x' * 1000) for file in files]; time.sleep(3); [file.close() for file in files]"
    )
    subprocess.run([sys.executable, "-c", script, str(folder), *names], env=environment, check=True)


def test_parts_of_two_attempts_are_never_mixed(new_node: NewDaemon) -> None:
    a, b, c = new_node("a"), new_node("b"), new_node("c")
    for rank, node in enumerate((a, b)):
        write(node, 1, rank, content=b"old %d" % rank)
    c.committed("run-1", 1)
    write(a, 1, 0, content=b"new, and longer")  # the job goes on, and writes the step again: one node is done with it
    a.until(lambda: manifests(a, 1) == ["a"], "the first attempt is taken back")
    assert c.ctl("latest", "run-1", check=4).stdout == ""
    b.state_is("run-1", 1, "torn")  # what lies here is of the first attempt, and stays out
    time.sleep(2)
    assert manifests(a, 1) == ["a"]
    write(b, 1, 1, content=b"new too, and longer")
    for node in (a, b, c):
        node.committed("run-1", 1)
    c.ctl("prefetch", "run-1@1")
    folder = c.volume / "run-1/checkpoint-1"
    assert (folder / RANK.format(world=2, rank=0)).read_bytes() == b"new, and longer"
    assert (folder / RANK.format(world=2, rank=1)).read_bytes() == b"new too, and longer"


def test_a_hole_stops_a_prefetch_and_names_itself(new_node: NewDaemon) -> None:
    a, b, c = new_node("a"), new_node("b"), new_node("c")
    for rank, node in enumerate((a, b)):
        write(node, 1, rank)
    c.committed("run-1", 1)
    (a.remote / "run-1/checkpoint-1" / RANK.format(world=2, rank=1)).unlink()
    assert RANK.format(world=2, rank=1) in c.ctl("prefetch", "run-1@1", check=6).stderr
    assert RANK.format(world=2, rank=1) in c.ctl("restore", "run-1@1", str(c.home / "out"), check=6).stderr
    b.end()
    for path in (a.remote / ".ckptd/manifests/run-1/1").glob("b.json*"):
        path.unlink()
    assert "1 committed" in c.ctl("prefetch", "run-1@1", check=6).stderr


def test_one_node_prunes_and_the_others_follow(new_node: NewDaemon) -> None:
    keep = "keep_hot = 1\nkeep_nvme = 1\nkeep_remote = 1"
    a, b = new_node("a", policy=keep), new_node("b", policy=keep)
    for step in (1, 2):
        for rank, node in enumerate((a, b)):
            write(node, step, rank)
        for node in (a, b):
            node.committed("run-1", step)
    a.until(lambda: manifests(a, 1) == [], "the older one is pruned")
    b.until(lambda: b.checkpoint("run-1", 1) is None, "and forgotten")
    time.sleep(2)
    assert manifests(a, 1) == []
    assert all("checkpoint-2" in key for key in objects(a.remote))
    told = [event for node in (a, b) for event in node.json("events") if event["event"] == "checkpoint.pruned"]
    assert len(told) == 1


def test_two_daemons_of_one_name_do_not_overwrite_each_other(new_node: NewDaemon) -> None:
    first, second = new_node("twin"), new_node("twin")
    write(first, 1, 0, world=1)
    first.committed("run-1", 1)
    write(second, 1, 0, world=1, content=b"another")
    event = second.until(
        lambda: next((e for e in second.json("events") if e["event"] == "node.namesake"), None), "it is told"
    )
    assert "another daemon named 'twin'" in event["message"]
    assert "CKPTD_NODE" in event["fields"]["hint"]
    assert objects(first.remote)["run-1/checkpoint-1/" + RANK.format(world=1, rank=0)] == b"0" * 1000
    first.committed("run-1", 1)


@pytest.mark.s3
def test_a_node_that_is_cut_off_while_it_commits(
    new_island: NewIsland, new_daemon: NewDaemon, s3_server: Any, s3_remote: Any
) -> None:
    islands = [new_island(s3_server.port) for _ in range(2)]
    inside = options(s3_remote, endpoint_url=f"http://127.0.0.1:{PORT}")
    a, b = (
        new_daemon(node=name, remote=s3_remote.url, options=inside, prefix=island.prefix)
        for name, island in zip("ab", islands, strict=True)
    )
    for node in (a, b):
        node.start()
    bucket = Bucket(s3_server, s3_remote.url)
    write(b, 1, 1)
    b.until(lambda: any("rank_1" in name for name in bucket.names()), "its file is sent")
    islands[1].cut()
    write(a, 1, 0)
    a.until(lambda: any(key.endswith("/a.json") for key in bucket.manifests()), "the other one commits")
    if not any(key.endswith("/b.json") for key in bucket.manifests()):
        assert a.checkpoint("run-1", 1)["state"] == "writing"
    islands[1].mend()
    a.committed("run-1", 1, timeout=60)
    b.committed("run-1", 1, timeout=60)
    assert bucket.complaint() is None
    bucket.clear()


@pytest.mark.s3
def test_a_commit_of_one_node_adds_two_requests(new_daemon: NewDaemon, s3_proxied: Any) -> None:
    daemon = new_daemon(remote=s3_proxied.url, options=options(s3_proxied))
    daemon.start()
    save(daemon.volume / "run-1/checkpoint-1", {f"part-{number}.bin": b"%d" % number * 1000 for number in range(8)})
    daemon.until(lambda: messages(daemon, "checkpoint.committed"), "it is committed")  # asks nothing of the remote
    asked = [(method, path.partition("/")[2]) for method, path in s3_proxied.proxy.seen]
    last = max(at for at, (method, path) in enumerate(asked) if method == "PUT" and "/run-1/checkpoint-1/part-" in path)
    after = [(method, "/manifests/" in path) for method, path in asked[last + 1 :]]
    assert after == [("GET", False), ("PUT", True)], asked
