"""Pruning lets go what policy does not keep and nothing else, whenever the daemon is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests_node_daemon import Daemon, save
from tests_node_remote import manifest_path, objects

SMALL = "keep_hot = 1\nkeep_nvme = 1\n"
FILES = 12
MANY = 200


def saved(daemon: Daemon, *steps: int, count: int = FILES) -> None:
    for step in steps:
        files = {f"part-{number}.bin": b"%d/%d" % (step, number) * 50 for number in range(count)}
        save(daemon.volume / f"run-1/checkpoint-{step}", {**files, "DONE": b""})
        (daemon.volume / f"run-1/checkpoint-{step}/alias.bin").symlink_to("part-0.bin")
    daemon.committed("run-1", steps[-1], timeout=90)
    daemon.until(lambda: all(manifest_path(daemon, "run-1", step).exists() for step in steps), "all committed", 90)


@contextmanager
def killing(daemon: Daemon) -> Iterator[None]:
    """Everything of the daemon is killed, between two instructions, when the block ends."""
    assert daemon.process is not None
    worker = daemon.worker_pid()
    movers = [int(pid) for pid in Path(f"/proc/{worker}/task/{worker}/children").read_text().split()]
    yield
    for pid in (*movers, worker, daemon.process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    daemon.process.wait(10)
    daemon.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in (worker, *movers)), "all of it is gone")
    daemon.process = None


def keys(daemon: Daemon) -> set[str]:
    """What is in the remote; nothing is read, because it may be gone a moment later."""
    root = daemon.remote
    found = {str(Path(directory, name).relative_to(root)) for directory, _, names in os.walk(root) for name in names}
    return {key for key in found if not key.startswith(".ckptd/")}


def steps_in(paths: Iterable[str]) -> set[int]:
    return {
        int(path.split("/")[1].removeprefix("checkpoint-")) for path in paths if path.startswith("run-1/checkpoint-")
    }


def manifests(daemon: Daemon) -> set[int]:
    found = os.walk(daemon.remote / ".ckptd/manifests/run-1")  # they go while we look: rglob would raise
    return {int(os.path.basename(step)) for step, _, names in found if any(name.endswith(".json") for name in names)}


def test_a_prune_that_is_killed_again_and_again_ends_with_what_is_kept_and_nothing_else(
    new_daemon: Callable[..., Daemon],
) -> None:
    daemon = new_daemon(policy=SMALL)
    daemon.start()
    saved(daemon, *range(1, 7), count=MANY)
    daemon.ctl("tag", "run-1@4", "best")
    foreign = {
        "run-1/checkpoint-3/notes.txt": b"mine",
        "run-1/checkpoint-3x/part-0.bin": b"mine too",
        "run-2/a": b"other",
    }
    save(daemon.remote, foreign)
    kept = {4, 5, 6}
    daemon.ctl("policy", "set", "run-1", "keep_remote=1", "keep_every=5")
    while (before := manifests(daemon)) != kept:
        with killing(daemon):
            end = time.monotonic() + 60
            while manifests(daemon) == before and time.monotonic() < end:
                pass  # the next manifest goes at any moment, and its objects after it: that is the moment
        there = keys(daemon)
        for step in manifests(daemon):  # whatever the moment: what a manifest describes is there
            described = json.loads(manifest_path(daemon, "run-1", step).read_text())["files"]
            assert all(file["key"] in there for file in described if "link" not in file), step
        daemon.start()
    daemon.until(lambda: steps_in(keys(daemon) - foreign.keys()) == kept, "and only their objects", 60)
    left = objects(daemon.remote)
    assert {path: left[path] for path in foreign} == foreign
    assert len(left) == len(foreign) + len(kept) * (MANY + 1)
    assert {one["step"]: one["state"] for one in daemon.json("ls", "run-1")} == dict.fromkeys(kept, "committed")
    for step in kept:
        daemon.ctl("verify", f"run-1@{step}", "--remote")
    daemon.ctl("down")
    assert objects(daemon.remote).keys() == left.keys()


def test_an_interrupted_rm_goes_on_and_leaves_what_others_wrote(daemon: Daemon) -> None:
    saved(daemon, 1, 2, 3, count=MANY)
    foreign = daemon.remote / "run-1/checkpoint-2/notes.txt"
    foreign.write_text("mine")

    def of_two() -> set[str]:
        return {key.removeprefix("run-1/checkpoint-2/") for key in keys(daemon) if steps_in([key]) == {2}}

    with killing(daemon):
        asked = threading.Thread(target=daemon.ctl, args=("rm", "run-1@2", "--remote", "--yes"), kwargs={"check": None})
        asked.start()
        end = time.monotonic() + 60
        while manifests(daemon) != {1, 3} and time.monotonic() < end:
            pass  # its objects go after it: that is the moment
    left = of_two()
    assert left > {"notes.txt"}, "it was interrupted"
    daemon.start()
    asked.join(60)
    daemon.until(lambda: of_two() == {"notes.txt"}, "its objects go too", 60)
    assert manifests(daemon) == {1, 3}
    daemon.until(lambda: not (daemon.volume / "run-1/checkpoint-2").exists(), "and what lies here", 60)
    assert daemon.checkpoint("run-1", 2) is None
    for step in (1, 3):
        daemon.ctl("verify", f"run-1@{step}", "--remote")


def test_objects_that_another_manifest_describes_stay(new_daemon: Callable[..., Daemon]) -> None:
    """Nobody writes such manifests now; who does later must not lose a checkpoint to an older daemon's pruning."""
    daemon = new_daemon(policy=SMALL)
    daemon.start()
    saved(daemon, 1, 2, 3)
    daemon.terminate()
    one, two = (json.loads(manifest_path(daemon, "run-1", step).read_text()) for step in (1, 2))
    shared = next(file for file in one["files"] if file["key"].endswith("part-3.bin"))
    two["files"].append(shared)
    manifest_path(daemon, "run-1", 2).write_text(json.dumps(two))
    daemon.start()
    daemon.ctl("policy", "set", "run-1", "keep_remote=2")
    daemon.until(lambda: manifests(daemon) == {2, 3}, "1 is pruned")
    daemon.until(lambda: steps_in(keys(daemon) - {shared["key"]}) == {2, 3}, "its objects too")
    assert (daemon.remote / shared["key"]).exists()


def test_rm_of_a_tagged_checkpoint_needs_force_and_takes_the_tag_along(daemon: Daemon) -> None:
    saved(daemon, 1, 2)
    daemon.ctl("tag", "run-1@1", "best")
    daemon.ctl("tag", "run-1@1", "paper")
    for target in ("run-1@1", "run-1", "run-1@best"):
        refused = daemon.ctl("rm", target, "--remote", "--yes", check=7)
        assert "run-1@1 is tagged best, paper" in refused.stderr
        assert "--force" in refused.stderr
    assert manifests(daemon) == {1, 2}
    daemon.ctl("rm", "run-1@2", "--yes")
    daemon.ctl("rm", "run-1@best", "--remote", "--yes", "--force")
    assert manifests(daemon) == {2}
    assert daemon.json("tags") == []
    assert not any((daemon.remote / ".ckptd/tags").rglob("best"))


def test_rm_of_the_local_copies_keeps_the_tag_of_what_is_in_the_remote(daemon: Daemon) -> None:
    saved(daemon, 1)
    daemon.ctl("tag", "run-1@1", "best")
    daemon.ctl("rm", "run-1@1", "--yes", "--force")
    assert [tag["name"] for tag in daemon.json("tags", "run-1")] == ["best"]
    daemon.ctl("restore", "run-1@best", str(daemon.home / "out"))
    assert (daemon.home / "out/part-0.bin").exists()


def test_evict_says_that_a_pin_went_with_it(daemon: Daemon) -> None:
    saved(daemon, 1)
    daemon.ctl("pin", "run-1@1")
    assert "run-1@1 was pinned and is so no longer" in daemon.ctl("evict", "run-1@1").stdout
    assert "pinned" not in daemon.ctl("ls", "run-1").stdout
    daemon.ctl("prefetch", "run-1@1")
    assert "pinned" not in daemon.ctl("evict", "run-1@1").stdout


def test_prefetch_of_files_that_are_not_there_says_so(daemon: Daemon) -> None:
    saved(daemon, 1)
    refused = daemon.ctl("prefetch", "run-1@1", "--match", "*.safetensors", check=4)
    assert "no file of run-1@1 matches '*.safetensors'" in refused.stderr
    assert "part-" in refused.stderr or "DONE" in refused.stderr
    assert daemon.ctl("prefetch", "run-1@1", "--match", "part-1*").returncode == 0
    found = daemon.json("prefetch", "run-1@1")
    assert found["bytes_before"] == found["bytes_done"] == found["bytes_total"] > 0, "nothing moved: that is no speed"
    daemon.ctl("evict", "run-1@1")
    assert daemon.json("prefetch", "run-1@1")["bytes_before"] == 0
