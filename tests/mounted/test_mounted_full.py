"""Memory that is full: saves go on in the tier below, wait for room, and fail only where there is none anywhere."""

from __future__ import annotations

import errno
import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_mounted_volume import digest, server_pid
from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import away, objects

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_full")]


def in_nvme(daemon: Daemon) -> list[int]:
    return [path.stat().st_size for path in (daemon.home / "nvme/volumes/ckpt/objects").iterdir()]


def held_open(path: Path) -> io.FileIO:
    """Fills memory, and stays: what a writer has open is not moved away."""
    path.parent.mkdir(parents=True)
    file = io.FileIO(path, "w")
    file.write(os.urandom(9 * MIB - 65536))
    return file


def test_saves_that_memory_has_no_room_for_begin_in_the_tier_below(new_mounted: Callable[..., Daemon]) -> None:
    """The remote is away and everything is pinned by that: 40 MiB are saved through a memory of 16."""
    daemon = new_mounted(ram_budget="16MiB", nvme_budget="256MiB", policy="keep_hot = 20\nkeep_nvme = 20")
    daemon.start()
    contents = {step: os.urandom(8 * MIB) for step in range(1, 6)}
    with away(daemon):
        for step, content in contents.items():
            save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": content, "config.json": b"{}"})
        for step, content in contents.items():
            assert (daemon.volume / f"run-1/checkpoint-{step}/model.bin").read_bytes() == content
        assert 8 * MIB in in_nvme(daemon)
    for step in contents:
        daemon.committed("run-1", step)
    stored = objects(daemon.remote)
    assert {step: stored[f"run-1/checkpoint-{step}/model.bin"] for step in contents} == contents


def test_a_file_that_began_below_lives_like_any_other(new_mounted: Callable[..., Daemon]) -> None:
    """No memory at all is free when it is created, so it begins in NVMe; after that it is renamed, evicted, and comes back."""
    daemon = new_mounted(ram_budget="8MiB", nvme_budget="256MiB", policy="keep_hot = 20\nkeep_nvme = 20")
    daemon.start()
    run = daemon.volume / "run-1"
    with away(daemon):
        ballast = held_open(run / "checkpoint-1/ballast.bin")
        content = os.urandom(6 * MIB)
        (run / "tmp-checkpoint-2").mkdir()
        target = run / "tmp-checkpoint-2/model.bin"
        with target.open("wb", buffering=0) as file:
            file.write(content[:MIB])
            daemon.until(lambda: MIB in in_nvme(daemon), "it began below")
            assert daemon.get("/v1/runs/run-1/checkpoints") is not None
            file.write(content[MIB:])
        (run / "tmp-checkpoint-2").rename(run / "checkpoint-2")
        target = run / "checkpoint-2/model.bin"
        assert not target.is_symlink()
        assert target.read_bytes() == content
        os.chmod(target, 0o640)
        assert target.stat().st_mode & 0o777 == 0o640
        ballast.close()
    daemon.committed("run-1", 2)
    assert objects(daemon.remote)["run-1/checkpoint-2/model.bin"] == content
    daemon.ctl("evict", "run-1@2")
    daemon.until(lambda: 6 * MIB not in in_nvme(daemon), "it left the tier")
    assert target.stat().st_size == 6 * MIB
    assert target.read_bytes() == content
    with target.open("ab") as file:
        file.write(b"more")
    daemon.until(
        lambda: objects(daemon.remote)["run-1/checkpoint-2/model.bin"] == content + b"more", "the change is durable"
    )
    target.unlink()
    assert daemon.terminate() == 0
    daemon.start()
    assert not target.exists()


def test_a_kill_of_everything_does_not_lose_what_began_below(new_mounted: Callable[..., Daemon]) -> None:
    daemon = new_mounted(ram_budget="8MiB", nvme_budget="256MiB", policy="keep_hot = 20\nkeep_nvme = 20")
    daemon.start()
    run = daemon.volume / "run-1"
    with away(daemon):
        ballast = held_open(run / "checkpoint-1/ballast.bin")
        save(run / "checkpoint-2", {"model.bin": b"2" * (5 * MIB)})
        assert 5 * MIB in in_nvme(daemon)
        before = digest(run / "checkpoint-2/model.bin")
        os.kill(server_pid(daemon), 9)
        os.kill(daemon.worker_pid(), 9)
        assert digest(run / "checkpoint-2/model.bin") == before
        ballast.close()
    daemon.committed("run-1", 2)


def test_without_room_anywhere_a_writer_waits_and_goes_on_when_there_is_some(
    new_mounted: Callable[..., Daemon],
) -> None:
    """No tier below, memory full of what is not durable yet: the write waits until the remote is back."""
    daemon = new_mounted(ram_budget="8MiB", nvme_budget="0", policy="keep_hot = 1\nkeep_nvme = 1")
    daemon.start()
    run = daemon.volume / "run-1"
    for step in (1, 2):
        save(run / f"checkpoint-{step}", {"model.bin": os.urandom(4 * MIB)})
        daemon.committed("run-1", step)
    ended: list[float] = []

    def write() -> None:
        save(run / "checkpoint-4", {"model.bin": b"4" * (4 * MIB)})
        ended.append(time.monotonic())

    with away(daemon):
        save(run / "checkpoint-3", {"model.bin": os.urandom(4 * MIB)})
        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(2.5)
        assert not ended
    back = time.monotonic()
    writer.join(30)
    assert ended
    assert ended[0] >= back
    assert (run / "checkpoint-4/model.bin").read_bytes() == b"4" * (4 * MIB)


def test_without_room_anywhere_for_long_it_is_enospc_and_an_event(new_mounted: Callable[..., Daemon]) -> None:
    daemon = new_mounted(ram_budget="8MiB", nvme_budget="0")
    daemon.start()
    run = daemon.volume / "run-1"
    with away(daemon):
        with pytest.raises(OSError) as refused:  # noqa: PT011, PT012 - the errno is what counts
            for step in range(1, 5):
                save(run / f"checkpoint-{step}", {"model.bin": os.urandom(4 * MIB)})
        assert refused.value.errno == errno.ENOSPC
        daemon.until(lambda: "tier.full" in {event["event"] for event in daemon.json("events")}, "it is told")


def test_a_daemon_starts_on_memory_that_is_full(new_mounted: Callable[..., Daemon]) -> None:
    """It has to: nobody else can make room."""
    daemon = new_mounted(ram_budget="8MiB", nvme_budget="0")
    daemon.start()
    run = daemon.volume / "run-1"
    with away(daemon):
        save(run / "checkpoint-1", {"model.bin": os.urandom(8 * MIB)})
        daemon.crash()
        tier = daemon.ram / "volumes/ckpt/run-1/rest"
        with pytest.raises(OSError, match="No space left"):
            tier.write_bytes(bytes(4 * MIB))
    daemon.start()
    daemon.committed("run-1", 1)
