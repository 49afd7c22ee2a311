"""Each metric moves when what it counts happens, in a real daemon."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_node_daemon import MIB, Daemon, save
from tests_node_metrics import Metrics

LIGHT = {"trainer_state.json": b"{}"}


def write(daemon: Daemon, run: str, step: int, size: int = 2 * MIB, seconds: float = 0.0) -> int:
    """One checkpoint whose first file is open for `seconds`; returns its bytes."""
    directory = daemon.volume / run / f"checkpoint-{step}"
    directory.mkdir(parents=True)
    with (directory / "model.bin").open("wb") as file:
        file.write(os.urandom(size // 2))
        file.flush()
        time.sleep(seconds)
        file.write(os.urandom(size - size // 2))
    save(directory, LIGHT)
    return size + 2


def committed(daemon: Daemon, run: str, step: int, commits: int) -> Metrics:
    """What is exported when the step is committed, and that was counted as the worker's `commits`th: moments later."""
    daemon.committed(run, step)

    def counted() -> Metrics | None:
        now = Metrics(daemon)
        told = f'ckptd_events_total{{event="checkpoint.committed",level="info"}} {commits}.0' in now.text
        return now if told and now("ckptd_checkpoint_transitions_total", state="committed") == commits else None

    found: Metrics = daemon.until(counted, f"{commits} commits are counted")
    return found


def test_what_is_exported_is_well_formed_and_promtool_finds_nothing_to_say(daemon: Daemon) -> None:
    write(daemon, "run-1", 1)
    daemon.committed("run-1", 1)
    metrics = Metrics(daemon)
    for name, family in metrics.families.items():
        assert name.startswith("ckptd_"), name
        assert family.documentation, name
        assert family.type in ("gauge", "counter", "histogram"), name
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples), name
        for sample in family.samples:
            assert not {"run", "step", "path"} & sample.labels.keys(), "without number: never a label"
    assert metrics.text.count("# TYPE") == len(metrics.families), "no family is exported twice"
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    said = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.text, text=True, capture_output=True, check=False
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_a_save_and_its_commit_are_measured(daemon: Daemon) -> None:
    before = Metrics(daemon)
    assert before("ckptd_upload_bytes_total", volume="ckpt") == before("ckptd_commit_seconds_count", volume="ckpt") == 0
    begun = time.time()
    size = write(daemon, "run-1", 1, seconds=0.8)
    ended = time.time()
    after = committed(daemon, "run-1", 1, 1)
    assert after("ckptd_upload_bytes_total", volume="ckpt") == size
    assert after("ckptd_save_seconds_count", volume="ckpt") == after("ckptd_commit_seconds_count") == 1
    assert 0.7 <= after("ckptd_save_seconds_sum") <= ended - begun + 5
    assert 0 < after("ckptd_commit_seconds_sum") < 30
    assert ended - 1 < after("ckptd_last_save_timestamp_seconds")
    assert after("ckptd_last_commit_timestamp_seconds") > after("ckptd_last_save_timestamp_seconds") - 0.01
    assert after("ckptd_save_interval_seconds") == 0, "one save has no interval"
    assert after("ckptd_checkpoints", state="committed") == 1
    assert after("ckptd_checkpoint_transitions_total", state="committed") == 1
    assert after("ckptd_exposure_bytes", volume="ckpt") == 0
    assert after("ckptd_events_total", event="checkpoint.committed") == 1
    assert after("ckptd_build_info") == 1
    write(daemon, "run-1", 2)
    assert 0 < committed(daemon, "run-1", 2, 2)("ckptd_save_interval_seconds") < 30
    daemon.until(lambda: Metrics(daemon)("ckptd_event_loop_lag_seconds_count") > 0, "the loop's lag is measured")


def test_what_was_measured_last_is_known_after_a_restart(daemon: Daemon) -> None:
    for step in (1, 2):
        write(daemon, "run-1", step)
        before = committed(daemon, "run-1", step, step)
    os.kill(daemon.worker_pid(), signal.SIGKILL)
    daemon.until(lambda: daemon.get("/v1/status")["restarts"] == 1, "restarted")
    after = Metrics(daemon)
    for name in ("last_save_timestamp_seconds", "last_commit_timestamp_seconds", "save_interval_seconds"):
        assert after(f"ckptd_{name}") == before(f"ckptd_{name}") > 0
    assert after("ckptd_worker_restarts_total") == 1
    assert after("ckptd_commit_seconds_count") == 0, "counters begin anew with the worker"
    assert after("ckptd_checkpoint_transitions_total") == 0, "what a start finds did not happen now"


def test_where_a_checkpoint_was_found_is_counted(daemon: Daemon, new_daemon: Callable[..., Daemon]) -> None:
    size = write(daemon, "run-1", 1)
    daemon.committed("run-1", 1)
    daemon.ctl("latest", "run-1")
    daemon.json("prefetch", "run-1")
    here = Metrics(daemon)
    assert here("ckptd_lookups_total", by="latest", tier="ram") == 1
    assert here("ckptd_lookups_total", by="prefetch", tier="ram") == 1
    assert here("ckptd_pins", volume="ckpt") == 1
    other = new_daemon(remote=daemon.remote_url)
    other.start()
    other.json("prefetch", "run-1")
    there = Metrics(other)
    assert there("ckptd_lookups_total", by="prefetch", tier="remote") == there("ckptd_prefetch_seconds_count") == 1
    assert there("ckptd_download_bytes_total") == size
    assert there("ckptd_upload_bytes_total") == 0
    assert there("ckptd_save_seconds_count") == 0, "what was fetched was not saved here"
    assert there("ckptd_checkpoint_transitions_total", state="committed") == 0, "it was only heard of"


def test_moves_and_evictions_are_counted(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", policy="keep_hot = 1\nkeep_nvme = 2\nkeep_remote = 3")
    daemon.start()
    for step in range(1, 6):
        write(daemon, "run-1", step)
        daemon.committed("run-1", step)
    daemon.until(lambda: Metrics(daemon)("ckptd_prunes_total") >= 1, "pruned")
    daemon.until(lambda: Metrics(daemon)("ckptd_demotions_total") >= 2, "demoted")
    metrics = Metrics(daemon)
    assert metrics("ckptd_demoted_bytes_total") >= 2 * MIB
    assert metrics("ckptd_evictions_total") >= 2
    assert metrics("ckptd_evicted_bytes_total") >= 2 * MIB
    daemon.json("prefetch", "run-1@4")
    assert Metrics(daemon)("ckptd_lookups_total", by="prefetch", tier="nvme") == 1


def test_a_remote_that_does_not_answer_is_counted(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote")
    daemon.start()
    write(daemon, "run-1", 1)
    daemon.committed("run-1", 1)
    shutil.move(daemon.remote, tmp_path / "away")
    daemon.remote.write_text("no directory")
    write(daemon, "run-1", 2)
    try:
        daemon.until(lambda: Metrics(daemon)("ckptd_remote_ok") == 0, "noticed")
        daemon.until(lambda: Metrics(daemon)("ckptd_upload_failures_total") >= 1, "counted")
        metrics = Metrics(daemon)
        assert metrics("ckptd_remote_failures_total", volume="ckpt") >= 1
        assert metrics("ckptd_exposure_bytes", volume="ckpt") > 0
        series = 'ckptd_events_total{event="remote.unreachable",level="warning"} 1.0'
        daemon.until(lambda: series in Metrics(daemon).text, "its event is counted")
    finally:
        daemon.remote.unlink()
        shutil.move(tmp_path / "away", daemon.remote)
    daemon.committed("run-1", 2, timeout=60)


def test_a_torn_checkpoint_is_counted_once(daemon: Daemon) -> None:
    write(daemon, "run-1", 1)
    daemon.committed("run-1", 1)
    (daemon.volume / "run-1/checkpoint-2").mkdir()
    (daemon.volume / "run-1/checkpoint-2/model.bin").write_bytes(os.urandom(MIB))
    write(daemon, "run-1", 3)
    daemon.state_is("run-1", 2, "torn")
    daemon.committed("run-1", 3)
    daemon.until(lambda: Metrics(daemon)("ckptd_checkpoint_transitions_total", state="torn"), "counted")
    metrics = Metrics(daemon)
    assert metrics("ckptd_checkpoints", state="torn") == 1
    assert metrics("ckptd_checkpoint_transitions_total", state="torn") == 1


def test_memory_pressure_is_counted(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    psi = tmp_path / "psi"
    psi.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    daemon = new_daemon(environment={"CKPTD_PSI_FILE": str(psi)})
    daemon.start()
    assert Metrics(daemon)("ckptd_pressure_shrinks_total") == 0
    psi.write_text("some avg10=50.00 avg60=0.00 avg300=0.00 total=0\n")
    daemon.until(lambda: Metrics(daemon)("ckptd_pressure_shrinks_total") >= 1, "shrunk")
    metrics = Metrics(daemon)
    budget = metrics("ckptd_tier_budget_bytes", tier="ram")
    assert metrics("ckptd_tier_effective_budget_bytes", tier="ram") < budget
