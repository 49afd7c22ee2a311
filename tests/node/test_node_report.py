"""`ckptctl report`: what a real daemon measured of a run, and of its remote by itself."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_node_metrics import LIGHT, write
from tests_node_bucket import Bucket, options
from tests_node_daemon import FRONT, MIB, Daemon, save

PROBED = 64 * MIB
SOON = {"CKPTD_PROBE_EVERY": "1s"}


def report(daemon: Daemon, run: str = "run-1", *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.json("report", run, *arguments)
    return found


def measured(daemon: Daemon, commits: int, run: str = "run-1") -> dict[str, Any]:
    """The report, when so many commits are in it: moments after they are made."""

    def holds() -> dict[str, Any] | None:
        found: dict[str, Any] = daemon.get(f"/v1/runs/{run}/report")
        return found if found["durable"] and found["durable"]["count"] == commits else None

    found: dict[str, Any] = daemon.until(holds, f"{commits} commits are measured")
    return found


def probed(daemon: Daemon, run: str = "run-1") -> dict[str, Any]:
    """The report, when there is a probe to compare with."""
    daemon.until(lambda: daemon.get(f"/v1/runs/{run}/report")["remote_alone"], "probed", timeout=60)
    return report(daemon, run, "--gpus", "64")


def test_a_run_in_its_own_numbers(daemon: Daemon, new_daemon: Callable[..., Daemon]) -> None:
    sizes = 0
    for step in (1, 2, 3):
        sizes += write(daemon, "run-1", step, seconds=0.4)
        daemon.committed("run-1", step)
    found = measured(daemon, 3)
    assert found == report(daemon)
    assert (found["saves"], found["bytes"]) == (3, sizes)
    assert 0.35 <= found["save"]["median_s"] <= found["save"]["p95_s"] < 5
    assert found["save"]["total_s"] >= 3 * 0.35
    assert found["durable"]["count"] == 3
    listed = [one["durable_after_s"] for one in daemon.json("ls", "run-1")]
    assert found["durable"]["total_s"] == pytest.approx(sum(listed), abs=0.1), "the same as `ls` says"
    assert found["every_s"] > 0.4
    assert (found["resume"], found["remote_alone"], found["gpus"]) == (None, None, None)
    assert found["interval"]["cost_s"] == found["save"]["median_s"]
    assert found["interval"]["young_s"] == pytest.approx((2 * found["save"]["median_s"] * 86400) ** 0.5)
    hour = report(daemon, "run-1", "--mtbf", "1h", "--gpus", "8")
    assert (hour["mtbf_s"], hour["gpus"]) == (3600, 8)
    assert hour["interval"]["young_s"] < found["interval"]["young_s"]
    shown = daemon.ctl("report", "run-1").stdout
    assert "3 saves" in shown
    assert "not probed yet" in shown
    other = new_daemon(remote=daemon.remote_url)
    other.start()
    other.json("prefetch", "run-1")
    there = report(other)
    assert (there["saves"], there["save"], there["resume"]["count"], there["resumes_hot"]) == (0, None, 1, 0)
    other.json("prefetch", "run-1")
    assert report(other)["resumes_hot"] == 1
    assert "no save was seen on this node" in other.ctl("report", "run-1").stdout
    daemon.ctl("report", "run-9", check=4)
    daemon.ctl("report", "run-1", "--mtbf", "0s", check=2)


def test_what_was_measured_outlives_the_worker_and_the_checkpoint_but_not_the_run(daemon: Daemon) -> None:
    for step in (1, 2):
        write(daemon, "run-1", step, seconds=0.3)
        daemon.committed("run-1", step)
    before = measured(daemon, 2)
    os.kill(daemon.worker_pid(), signal.SIGKILL)
    daemon.until(lambda: daemon.get("/v1/status")["restarts"] == 1, "restarted")
    assert report(daemon) == before
    daemon.ctl("rm", "run-1@1", "--remote", "--yes")
    assert report(daemon) == before
    daemon.ctl("rm", "run-1", "--remote", "--yes")
    daemon.ctl("report", "run-1", check=4)


@pytest.mark.skipif(FRONT == "mount", reason="what is not mounted cannot be written")
def test_a_save_while_the_daemon_was_away_is_counted_and_not_timed(daemon: Daemon) -> None:
    write(daemon, "run-1", 1)
    daemon.committed("run-1", 1)
    assert daemon.terminate() == 0
    write(daemon, "run-1", 2)
    daemon.start()
    daemon.committed("run-1", 2)
    found = measured(daemon, 2)
    assert (found["saves"], found["save"]["count"]) == (2, 1)


def test_a_manifest_that_somebody_deleted_makes_no_save_of_what_was_fetched(
    daemon: Daemon, new_daemon: Callable[..., Daemon]
) -> None:
    write(daemon, "run-1", 1)
    daemon.committed("run-1", 1)
    daemon.end()
    other = new_daemon(remote=daemon.remote_url)
    other.start()
    other.json("prefetch", "run-1")
    shutil.rmtree(daemon.remote / ".ckptd/manifests/run-1")
    other.until(lambda: other.get("/v1/runs/run-1/checkpoints")[0]["state"], "it is looked at")
    other.until(
        lambda: list((daemon.remote / ".ckptd/manifests").glob(f"run-1/1/{other.node}.json")), "committed by this one"
    )
    assert report(other)["saves"] == 0


def test_a_step_that_is_written_again_is_a_save_of_its_own(daemon: Daemon) -> None:
    write(daemon, "run-1", 1)
    daemon.committed("run-1", 1)
    before = measured(daemon, 1)
    shutil.rmtree(daemon.volume / "run-1/checkpoint-1")
    write(daemon, "run-1", 1, size=3 * MIB, seconds=0.6)
    daemon.until(lambda: report(daemon)["bytes"] == 3 * MIB + 2, "saved again")
    daemon.committed("run-1", 1)
    found = daemon.until(lambda: (now := report(daemon))["durable"] and now, "durable again")
    assert found["saves"] == 1
    assert found["save"]["median_s"] >= 0.55 > before["save"]["median_s"]
    assert found["durable"]["median_s"] < 10


def test_a_save_under_a_temporary_name_counts_from_its_first_write(daemon: Daemon) -> None:
    """As the Trainer does: the directory is renamed at the end."""
    hidden = daemon.volume / "run-1/tmp-checkpoint-1"
    hidden.mkdir(parents=True)
    save(hidden, {"model.bin": os.urandom(MIB)})
    time.sleep(0.6)
    save(hidden, LIGHT)
    hidden.rename(daemon.volume / "run-1/checkpoint-1")
    assert measured(daemon, 1)["save"]["median_s"] >= 0.55


def test_the_remote_alone_is_probed_and_left_as_it_was(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = new_daemon(
        remote=f"file://{tmp_path}/remote", transfer='bandwidth = "64MiB"', environment=SOON, policy="keep_hot = 9"
    )
    daemon.start()
    write(daemon, "run-1", 1, size=4 * MIB, seconds=0.2)
    daemon.committed("run-1", 1)
    found = probed(daemon)
    alone = found["remote_alone"]
    assert alone["probe_bytes"] == PROBED
    for key in ("write_bytes_per_s", "read_bytes_per_s"):
        assert 2 * MIB < alone[key] <= 1.5 * 64 * MIB, f"{key}: within the cap on bandwidth, but for its burst"
    assert alone["save"]["median_s"] >= found["save"]["median_s"]
    assert alone["gpu_hours"] == pytest.approx(alone["saved_s"] * 64 / 3600)
    assert not list((daemon.remote / ".ckptd").rglob("probe/*"))
    assert not list(daemon.ram.rglob("probe-*"))
    status = daemon.get("/v1/status")
    assert status["transfers"]["sent_bytes"] == 4 * MIB + 2, "a probe is no file"
    assert status["exposure"]["files"] == 0
    time.sleep(3)
    assert report(daemon)["remote_alone"]["probed_at"] == alone["probed_at"], "nothing was saved since"
    shown = daemon.ctl("report", "run-1", "--gpus", "64").stdout
    for words in ("GPU-hours on 64 GPUs", "The remote alone is an estimate: 64.0 MiB written at", "save every"):
        assert words in shown


def test_a_probe_that_is_killed_leaves_nothing(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", transfer='bandwidth = "16MiB"', environment=SOON)
    daemon.start()
    write(daemon, "run-1", 1)
    daemon.committed("run-1", 1)
    worker = daemon.worker_pid()
    there = daemon.remote / ".ckptd/probe" / daemon.node
    daemon.until(there.exists, "it is written, and being read back", timeout=60)
    daemon.environment["CKPTD_PROBE_EVERY"] = "0"
    os.kill(worker, signal.SIGKILL)
    daemon.until(lambda: not there.exists(), "deleted as a leftover", timeout=60)


def test_a_probe_that_fails_is_no_trouble(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", environment=SOON)
    daemon.start()
    (daemon.remote / ".ckptd/probe").write_text("in the way")
    write(daemon, "run-1", 1)
    daemon.committed("run-1", 1)
    daemon.until(lambda: "probe.failed" in daemon.log, "it was tried")
    status = daemon.get("/v1/status")
    assert (status["volumes"][0]["remote_ok"], status["trouble"]) == (True, [])
    assert report(daemon)["remote_alone"] is None
    write(daemon, "run-1", 2)
    daemon.committed("run-1", 2)


def test_no_probe_where_it_is_turned_off(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", environment={"CKPTD_PROBE_EVERY": "0"})
    daemon.start()
    write(daemon, "run-1", 1)
    daemon.committed("run-1", 1)
    time.sleep(3)
    assert report(daemon)["remote_alone"] is None


@pytest.mark.s3
def test_a_real_s3_server_is_probed(new_daemon: Callable[..., Daemon], s3_server: Any, s3_remote: Any) -> None:
    bucket = Bucket(s3_server, s3_remote.url)
    daemon = new_daemon(remote=s3_remote.url, options=options(s3_remote), environment=SOON)
    try:
        daemon.start()
        write(daemon, "run-1", 1, size=8 * MIB, seconds=0.2)
        daemon.committed("run-1", 1)
        alone = probed(daemon)["remote_alone"]
        assert alone["write_bytes_per_s"] > MIB
        assert alone["read_bytes_per_s"] > MIB
        assert not [name for name in bucket.names() if name.startswith(".ckptd/probe")]
    finally:
        daemon.end()
        bucket.clear()
