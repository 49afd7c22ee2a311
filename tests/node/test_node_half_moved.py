"""Killed between a move inside the node and its record: the file is what it was, not something the job wrote just now."""

import os
import shutil
import sqlite3
from collections.abc import Callable

import pytest
from tests_node_daemon import MIB, Daemon, save


def model(step: int) -> bytes:
    return b"run-1/checkpoint-%d/model.bin" % step


@pytest.fixture
def crashed(new_daemon: Callable[..., Daemon]) -> Daemon:
    """Checkpoint 1 lies in NVMe, 2 in RAM, neither is committed; the daemon was killed."""
    daemon = new_daemon(policy="keep_hot = 1")
    daemon.start()
    run = daemon.volume / "run-1"
    save(run / "checkpoint-1", {"model.bin": b"1" * MIB, "DONE": b""})
    save(run / "checkpoint-2", {"model.bin": b"2" * MIB, "DONE": b""})
    daemon.until((run / "checkpoint-1/model.bin").is_symlink, "1 is demoted")
    daemon.until(lambda: states(daemon) == {1: "committed", 2: "committed"}, "both are committed")
    daemon.crash()
    shutil.rmtree(daemon.remote / ".ckptd/manifests/run-1")
    with sqlite3.connect(next((daemon.home / "state").glob("catalog*.db"))) as catalog:
        catalog.execute("DELETE FROM manifests")
    return daemon


def states(daemon: Daemon) -> dict[int, str]:
    return {one["step"]: one["state"] for one in daemon.get("/v1/runs/run-1/checkpoints")}


def unrecorded_demotion(daemon: Daemon, catalog: sqlite3.Connection) -> None:
    path = os.fsencode(daemon.volume.resolve() / os.fsdecode(model(1)))
    catalog.execute(
        "UPDATE copies SET place = 'ram', location = ?, inode = 1"
        " WHERE place = 'nvme' AND file = (SELECT id FROM files WHERE path = ?)",
        (path, model(1)),
    )


def unrecorded_promotion(daemon: Daemon, _: sqlite3.Connection) -> None:
    path = daemon.volume / os.fsdecode(model(1))
    shutil.copy2(path.resolve(), path.with_name("placed"))
    os.replace(path.with_name("placed"), path)


def recorded_eviction(_: Daemon, catalog: sqlite3.Connection) -> None:
    catalog.execute(
        "DELETE FROM copies WHERE place = 'ram' AND file = (SELECT id FROM files WHERE path = ?)", (model(2),)
    )


@pytest.mark.parametrize("half", [unrecorded_demotion, unrecorded_promotion, recorded_eviction])
def test_a_move_that_was_half_done_is_no_new_content(
    crashed: Daemon, half: Callable[[Daemon, sqlite3.Connection], None]
) -> None:
    with sqlite3.connect(next((crashed.home / "state").glob("catalog*.db"))) as catalog:
        generations = dict(catalog.execute("SELECT path, generation FROM files").fetchall())
        half(crashed, catalog)
    crashed.start()
    # The scan is over when it has told of a file that was written while nobody looked.
    save(crashed.volume / "run-1/checkpoint-3", {"model.bin": b"3" * MIB, "DONE": b""})
    crashed.until(lambda: states(crashed).get(3) == "committed", "3 is committed")
    crashed.until(lambda: states(crashed) == dict.fromkeys((1, 2, 3), "committed"), "all are committed")
    with sqlite3.connect(next((crashed.home / "state").glob("catalog*.db"))) as catalog:
        after = dict(catalog.execute("SELECT path, generation FROM files").fetchall())
    assert {path: after[path] for path in generations} == generations
