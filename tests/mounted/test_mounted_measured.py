"""What is measured of a mounted volume: saves, cold files that are opened, servers that are replaced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from test_mounted_full import held_open, in_nvme
from tests_mounted_volume import server_pid
from tests_node_daemon import MIB, Daemon
from tests_node_metrics import Metrics

pytestmark = pytest.mark.mount


def write(daemon: Daemon, step: int, seconds: float) -> None:
    directory = daemon.volume / f"run-1/checkpoint-{step}"
    directory.mkdir(parents=True)
    with (directory / "model.bin").open("wb") as file:
        file.write(os.urandom(MIB))
        file.flush()
        time.sleep(seconds)
        file.write(os.urandom(MIB))
    (directory / "optimizer.bin").write_bytes(os.urandom(MIB))


def test_a_save_is_measured_as_on_a_watched_volume(mounted: Daemon) -> None:
    write(mounted, 1, 0.7)
    mounted.committed("run-1", 1)
    found = mounted.json("report", "run-1")
    assert (found["saves"], found["bytes"]) == (1, 3 * MIB)
    assert 0.65 <= found["save"]["median_s"] < 5
    assert Metrics(mounted)("ckptd_save_seconds_sum") == pytest.approx(found["save"]["total_s"])


def test_a_save_that_begins_in_the_nvme_tier_is_measured_too(new_mounted: Callable[..., Daemon]) -> None:
    daemon = new_mounted(ram_budget="8MiB", nvme_budget="256MiB")
    daemon.start()
    ballast = held_open(daemon.volume / "run-0/ballast.bin")
    directory = daemon.volume / "run-1/checkpoint-1"
    directory.mkdir(parents=True)
    with (directory / "model.bin").open("wb", buffering=0) as file:
        file.write(os.urandom(MIB))
        time.sleep(0.7)
        assert MIB in in_nvme(daemon)
        assert [one["state"] for one in daemon.json("ls", "run-1")] == ["writing"], "it is open"
        file.write(os.urandom(2 * MIB))
    ballast.close()
    daemon.committed("run-1", 1)
    found = daemon.json("report", "run-1")
    assert found["bytes"] == 3 * MIB
    assert 0.65 <= found["save"]["median_s"] < 10


def test_cold_files_that_are_opened_one_after_the_other_are_one_resume(
    mounted: Daemon, new_mounted: Callable[..., Daemon]
) -> None:
    write(mounted, 1, 0.0)
    mounted.committed("run-1", 1)
    other = new_mounted()
    other.start()
    for name in ("model.bin", "optimizer.bin"):
        path = other.volume / "run-1/checkpoint-1" / name
        other.until(path.exists, "it is shown")
        path.read_bytes()
    metrics = Metrics(other)
    assert metrics("ckptd_open_seconds_count", volume="ckpt") == 2
    assert metrics("ckptd_lookups_total", by="open", tier="remote") == 1
    assert metrics("ckptd_download_bytes_total") == 3 * MIB
    found = other.json("report", "run-1")
    assert (found["resume"]["count"], found["resumes_hot"]) == (1, 0)
    assert found["resume"]["total_s"] >= metrics("ckptd_open_seconds_sum") * 0.9


def test_a_server_that_is_replaced_is_counted(mounted: Daemon) -> None:
    mounted.until(lambda: mounted.get("/v1/status")["volumes"][0]["passthrough"], "the server has answered")
    assert Metrics(mounted)("ckptd_mount_server_restarts_total", volume="ckpt") == 0
    os.kill(server_pid(mounted), signal.SIGKILL)
    mounted.until(lambda: Metrics(mounted)("ckptd_mount_server_restarts_total") == 1, "counted")
