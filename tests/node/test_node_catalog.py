"""The node's memory taken away: catalog corrupt or missing, RAM tier lost. Nothing is sent twice."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_node_daemon import MIB, Daemon, save

from ckptd.tiers.object_names import key_beside, name_of

NewDaemon = Callable[..., Daemon]


def objects(remote: Path) -> dict[str, tuple[int, int]]:
    """Every object's inode and time: an object that is written again is another file."""
    return {
        str(path.relative_to(remote)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(remote.rglob("*"))
        if path.is_file() and ".ckptd" not in path.parts
    }


def catalog(daemon: Daemon) -> Path:
    return daemon.home / "state" / "catalog.db"


def without_catalog(daemon: Daemon) -> None:
    for path in catalog(daemon).parent.glob("catalog.db*"):
        path.unlink()


def saved(daemon: Daemon, *steps: int, size: int = 1000) -> None:
    for step in steps:
        files = {"a.bin": bytes([step]) * size, "b.bin": b"b" * size, "DONE": b""}
        save(daemon.volume / "run-1" / f"step-{step}", files)
    for step in steps:
        daemon.committed("run-1", step)


def states(daemon: Daemon) -> dict[int, str]:
    return {item["step"]: item["state"] for item in daemon.json("ls", "run-1")}


def demoted(daemon: Daemon, step: int) -> bool:
    return all((daemon.volume / "run-1" / f"step-{step}" / name).is_symlink() for name in ("a.bin", "b.bin"))


def test_a_corrupt_catalog_is_kept_aside_and_rebuilt_without_sending_anything_again(daemon: Daemon) -> None:
    saved(daemon, *range(1, 6), size=100_000)
    before = objects(daemon.remote)
    assert daemon.terminate() == 0  # after a crash the write-ahead log would heal what we break
    database = catalog(daemon)
    with database.open("r+b") as file:
        for at in range(4096, database.stat().st_size - 4096, 8192):
            file.seek(at)
            file.write(os.urandom(4096))
    daemon.start()
    assert [path.name for path in database.parent.glob("catalog.db.corrupt-*") if path.suffix != ".db-wal"]
    for step in range(1, 6):
        daemon.committed("run-1", step)
    assert any("corrupt" in event["message"] for event in daemon.json("events"))
    assert daemon.json("flush")["state"] == "done"
    assert daemon.json("status")["exposure"]["files"] == 0
    assert objects(daemon.remote) == before
    saved(daemon, 6)
    assert daemon.json("verify", "run-1@3", "--remote")["state"] == "done"


def test_a_missing_catalog_finds_demoted_files_again_and_sends_nothing_twice(
    new_daemon: NewDaemon, tmp_path: Path
) -> None:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", policy="keep_hot = 1\nkeep_nvme = 9")
    daemon.start()
    saved(daemon, 1, 2, 3)
    daemon.until(lambda: demoted(daemon, 1) and demoted(daemon, 2), "steps 1 and 2 demoted")
    before = objects(daemon.remote)
    assert daemon.terminate() == 0
    without_catalog(daemon)
    (daemon.volume / "run-1" / "step-1").rename(daemon.volume / "run-1" / "step-11")
    daemon.start()
    for step in (2, 3, 11):
        daemon.committed("run-1", step)
    assert {name: kept for name, kept in objects(daemon.remote).items() if "step-11" not in name} == before
    assert not (daemon.volume / "run-1" / "step-1").exists()
    saved(daemon, 4, 5)  # new files never take the place of an object that was there
    daemon.until(lambda: demoted(daemon, 3) and demoted(daemon, 4), "steps 3 and 4 demoted")
    for step, content in ((2, 2), (3, 3), (4, 4), (11, 1)):
        path = daemon.volume / "run-1" / f"step-{step}" / "a.bin"
        assert path.read_bytes() == bytes([content]) * 1000
        assert daemon.json("verify", f"run-1@{step}", "--remote")["state"] == "done"


def test_a_reboot_and_a_lost_catalog_together_leave_what_nvme_and_remote_hold(
    new_daemon: NewDaemon, tmp_path: Path
) -> None:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", policy="keep_hot = 1\nkeep_nvme = 9")
    daemon.start()
    saved(daemon, 1, 2)
    daemon.until(lambda: demoted(daemon, 1), "step 1 demoted")
    before = objects(daemon.remote)
    daemon.crash()
    without_catalog(daemon)
    shutil.rmtree(daemon.ram)
    daemon.start()
    for step in (1, 2):
        daemon.committed("run-1", step)
    assert (daemon.volume / "run-1" / "step-1" / "a.bin").read_bytes() == b"\x01" * 1000
    assert daemon.json("prefetch", "run-1@2")["state"] == "done"
    assert (daemon.volume / "run-1" / "step-2" / "a.bin").read_bytes() == b"\x02" * 1000
    assert objects(daemon.remote) == before


def test_after_the_ram_tier_is_lost_the_durable_is_cold_and_the_rest_is_named(
    new_daemon: NewDaemon, tmp_path: Path
) -> None:
    remote = tmp_path / "remote"
    daemon = new_daemon(remote=f"file://{remote}", policy="keep_hot = 2\nkeep_nvme = 9")
    daemon.start()
    saved(daemon, 1)
    directory = daemon.volume / "run-1" / "step-2"
    save(directory, {"a.bin": b"2" * 1000})
    (directory / "link.bin").symlink_to("a.bin")
    os.chmod(directory / "a.bin", 0o640)
    saved(daemon, 2)
    saved(daemon, 3)
    daemon.until(lambda: demoted(daemon, 1), "step 1 demoted")
    remote.rename(tmp_path / "away")
    save(daemon.volume / "run-1" / "step-4", {"a.bin": b"4", "b.bin": b"4", "DONE": b""})
    save(daemon.volume / "run-1", {"train.log": b"loose"})
    daemon.state_is("run-1", 4, "complete")
    daemon.crash()
    shutil.rmtree(daemon.ram)
    (tmp_path / "away").rename(remote)
    daemon.start()
    assert states(daemon) == {1: "committed", 2: "committed", 3: "committed", 4: "lost"}
    lost = {event["message"] for event in daemon.json("events") if event["event"] == "file.lost"}
    names = ("run-1/step-4/a.bin", "run-1/step-4/b.bin", "run-1/step-4/DONE", "run-1/train.log")
    assert all(any(name in message for message in lost) for name in names)
    assert len(lost) == len(names)
    assert daemon.ctl("latest", "run-1", check=None).stdout.strip().endswith("step-3")
    assert demoted(daemon, 1)
    assert (daemon.volume / "run-1" / "step-1" / "a.bin").read_bytes() == b"\x01" * 1000
    assert daemon.json("prefetch", "run-1@2")["state"] == "done"
    assert (directory / "link.bin").readlink() == Path("a.bin")
    assert (directory / "a.bin").read_bytes() == b"\x02" * 1000
    assert (directory / "a.bin").stat().st_mode & 0o777 == 0o640
    daemon.ctl("prefetch", "run-1@4", check=6)
    saved(daemon, 5)


def test_a_catalog_of_a_newer_version_is_refused_and_left_alone(new_daemon: NewDaemon) -> None:
    daemon = new_daemon()
    daemon.start()
    saved(daemon, 1)
    assert daemon.terminate() == 0
    connection = sqlite3.connect(catalog(daemon))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    _, said = daemon.launch()
    assert said["ok"] is False
    assert said["exit_code"] == 1
    assert "schema version 99" in said["message"]
    assert "--state-dir" in said["hint"]
    assert daemon.process is not None
    assert daemon.process.wait(10) == 1
    assert not list(catalog(daemon).parent.glob("*corrupt*"))


@pytest.mark.slow
def test_ten_thousand_files_start_quickly(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """The first start adopts them, the second finds them as they were."""
    volume = tmp_path / "ckpt"
    for step in range(100):
        directory = volume / "run-1" / f"step-{step}"
        directory.mkdir(parents=True)
        for number in range(99):
            (directory / f"shard-{number}.bin").write_bytes(b"x")
        (directory / "DONE").write_bytes(b"")
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", volume=volume, extra='shutdown_timeout = "500ms"')
    took = []
    for _ in range(2):
        begun = time.monotonic()
        daemon.start()
        took.append(time.monotonic() - begun)
        daemon.crash()
    assert daemon.process is None
    print(f"\n10,000 files: first start {took[0]:.2f} s, next {took[1]:.2f} s")
    assert max(took) < 30  # the goal is 3 s on an idle machine; this is only against an order of magnitude more


@pytest.mark.slow
def test_ten_thousand_demoted_files_start_quickly(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """Links into the NVMe tier, each of which may have been written through while nobody looked."""
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", extra='shutdown_timeout = "500ms"')
    daemon.start()
    assert daemon.terminate() == 0
    objects_path = daemon.home / "nvme" / "volumes" / "ckpt" / "objects"
    key = key_beside(str(objects_path)) if os.geteuid() == 0 else b""
    for step in range(100):
        directory = daemon.volume / "run-1" / f"step-{step}"
        directory.mkdir(parents=True)
        for number in range(100):
            name = objects_path / name_of(step * 100 + number + 1, key)
            name.write_bytes(b"x" * (MIB // 1024))
            (directory / f"shard-{number}.bin").symlink_to(name)
    took = []
    for _ in range(2):
        begun = time.monotonic()
        daemon.start()
        took.append(time.monotonic() - begun)
        daemon.crash()
    print(f"\n10,000 demoted files: first start {took[0]:.2f} s, next {took[1]:.2f} s")
    assert max(took) < 30
