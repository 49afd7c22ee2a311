"""A node that is about to end: what is exposed becomes durable in the order of its worth, against a deadline."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from tests_node_daemon import MIB, Daemon, save

from ckptctl import notice
from ckptd.domain.errors import CkptdError


def saved(daemon: Daemon, run: str, step: int, mib: int) -> None:
    save(daemon.volume / f"{run}/checkpoint-{step}", {"model.bin": os.urandom(MIB) * mib, "DONE": b""})
    daemon.state_is(run, step, "complete")


@contextmanager
def draining(daemon: Daemon, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The real command, beside the test."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "ckptctl", "drain", "--json", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=daemon.environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def drain_seen(daemon: Daemon) -> dict[str, object]:
    def holds() -> dict[str, object] | None:
        running = daemon.get("/v1/status")["operations"]
        return next((one for one in running if one["kind"] == "drain"), None)

    return daemon.until(holds, "the drain is under way")


def test_with_too_little_time_the_newest_checkpoint_of_every_run_gets_through_and_outlives_the_node(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    slow = new_daemon(remote=f"file://{tmp_path}/remote", transfer='bandwidth = "4MiB"\npart_size = "5MiB"')
    slow.start()
    saved(slow, "run-a", 1, 60)
    slow.until(lambda: slow.get("/v1/status")["transfers"]["upload_bytes_per_s"] > 0, "the old one is on its way")
    saved(slow, "run-a", 2, 12)
    saved(slow, "run-b", 7, 5)
    with draining(slow, "--deadline", "12s") as process:
        assert drain_seen(slow)["deadline_at"] is not None
        assert "to its deadline" in slow.ctl("status").stdout
        out, err = process.communicate(timeout=60)
    assert process.returncode == 5, (out, err)
    said = json.loads(out)
    assert said["state"] == "timeout"
    assert "newest checkpoint durable of 2 of 2 runs" in said["result"]
    assert "2 of 2 runs" in err
    assert {run["run"]: run["newest_restorable"] for run in said["runs"]} == {"run-a": 2, "run-b": 7}
    states = {step: slow.checkpoint("run-a", step)["state"] for step in (1, 2)}  # type: ignore[index]
    assert states == {1: "complete", 2: "committed"}, "the old one was on its way first, and would have been done first"

    assert slow.process is not None
    slow.process.kill()  # and with the node goes its memory
    slow.process.wait()
    shutil.rmtree(slow.ram)
    other = new_daemon(remote=slow.remote_url)
    other.start()
    assert other.ctl("latest", "run-a").stdout.strip().endswith("run-a/checkpoint-2")
    assert other.ctl("latest", "run-b").stdout.strip().endswith("run-b/checkpoint-7")
    other.ctl("prefetch", "run-a")
    other.ctl("verify", "run-a", "--remote")


def test_saves_go_on_while_a_node_is_drained_and_are_drained_too(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(transfer='bandwidth = "8MiB"\npart_size = "5MiB"')
    daemon.start()
    saved(daemon, "run-a", 1, 24)
    with draining(daemon) as process:
        drain_seen(daemon)
        saved(daemon, "run-a", 2, 1)
        os.kill(daemon.worker_pid(), signal.SIGKILL)  # the drain is taken up again by the next worker
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    assert json.loads(out)["state"] == "done"
    assert "nothing is exposed" in json.loads(out)["result"]
    assert daemon.get("/v1/status")["exposure"]["files"] == 0
    assert daemon.checkpoint("run-a", 2)["state"] == "committed"  # type: ignore[index]
    assert daemon.json("drain")["state"] == "done", "again, with nothing left to do"


PREEMPTED = """
import os, signal, sys, time
def last_words(*_):
    os.mkdir(sys.argv[1])
    with open(sys.argv[1] + "/model.bin", "wb") as file:
        file.write(b"x" * 4_000_000)
    open(sys.argv[1] + "/DONE", "wb").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, last_words)
print("training", flush=True)
time.sleep(60)
"""


def test_what_a_preempted_job_saves_at_its_end_is_durable_after_the_drain(daemon: Daemon) -> None:
    saved(daemon, "run-a", 1, 1)
    command = [sys.executable, "-c", PREEMPTED, daemon.volume / "run-a/checkpoint-2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        job.stdout.readline()
        job.terminate()
        assert job.wait(30) == 0
    done = daemon.ctl("drain", "--deadline", "30s")
    assert "newest checkpoint durable of 1 of 1 runs; nothing is exposed" in done.stdout
    assert daemon.checkpoint("run-a", 2)["state"] == "committed"  # type: ignore[index]


def test_a_stop_of_the_daemon_sends_what_is_worth_most_first(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(transfer='bandwidth = "4MiB"\npart_size = "5MiB"', extra='shutdown_timeout = "6s"')
    daemon.start()
    saved(daemon, "run-a", 1, 60)
    daemon.until(lambda: daemon.get("/v1/status")["transfers"]["upload_bytes_per_s"] > 0, "the old one is on its way")
    saved(daemon, "run-a", 2, 8)
    daemon.terminate()
    manifests = {path.parent.name for path in (daemon.remote / ".ckptd/manifests").glob("run-a/*/*.json")}
    assert manifests == {"2"}


def azure_events(*ending: str) -> str:
    """Of a set: each machine hears of all of them."""
    at = "Fri, 01 Jan 2100 00:00:00 GMT"
    return json.dumps({"Events": [
        {"EventType": "Reboot", "Resources": ["train_0"], "NotBefore": ""},
        *({"EventType": "Preempt", "Resources": [name], "NotBefore": at} for name in ending),
    ]})  # fmt: skip


class Metadata(BaseHTTPRequestHandler):
    """What the clouds serve inside a node. Refuses what they refuse: no token, no header."""

    announced = False
    refusals: ClassVar[list[int]] = []
    """Instead of the next answers."""
    soon = False
    """What is announced is about to be."""

    def log_message(self, *_: object) -> None: ...

    def _answer(self, status: int, text: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self) -> None:
        asked = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200, "token-1") if asked else self._answer(400)

    def do_GET(self) -> None:
        answers = {
            "/latest/meta-data/spot/instance-action": (
                self.headers["X-aws-ec2-metadata-token"] == "token-1", 404,
                "", '{"action": "terminate", "time": "2100-01-01T00:00:00Z"}',
            ),
            "/latest/meta-data/instance/spot/termination-time": (True, 404, "", "2100-01-01T00:00:00Z"),
            "/computeMetadata/v1/instance/preempted": (self.headers["Metadata-Flavor"] == "Google", 200, "FALSE", "TRUE"),
            "/metadata/scheduledevents?api-version=2020-07-01": (
                self.headers["Metadata"] == "true", 200, azure_events("train_1"), azure_events("train_1", "train_0"),
            ),
            "/metadata/instance/compute/name?api-version=2021-02-01&format=text": (
                self.headers["Metadata"] == "true", 200, "train_0", "train_0",
            ),
        }  # fmt: skip
        allowed, before, quiet, told = answers[self.path]
        if self.soon:
            told = told.replace("2100-01-01", "2020-01-01").replace("Fri, 01 Jan 2100 00:00:00 GMT", "")
        if self.refusals:
            self._answer(self.refusals.pop(0))
            return
        if not allowed:
            self._answer(401)
        elif self.announced:
            self._answer(200, told)
        else:
            self._answer(before, quiet)
        if "compute/name" not in self.path:
            type(self).announced = True  # at the second question


@pytest.fixture
def metadata() -> Iterator[str]:
    Metadata.announced, Metadata.refusals, Metadata.soon = False, [], False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("cloud", sorted(notice.CLOUDS))
def test_each_cloud_s_notice_is_heard_at_the_second_question(cloud: str, metadata: str) -> None:
    slept: list[float] = []
    left = notice.wait(notice.CLOUDS[cloud], metadata, sleep=slept.append)
    assert slept == [notice.EVERY_S]
    assert left is not None
    assert left > 20
    assert (left < 60) is (cloud == "gcp")


@pytest.mark.parametrize("cloud", ["alibaba", "aws", "azure"])
def test_a_notice_whose_time_is_over_or_not_said_sets_no_deadline(cloud: str, metadata: str) -> None:
    Metadata.announced = Metadata.soon = True
    assert notice.wait(notice.CLOUDS[cloud], metadata) is None


@pytest.mark.parametrize("cloud", ["alibaba", "azure", "gcp"])
def test_a_metadata_service_that_has_answered_once_is_asked_on_however_often_it_fails(
    cloud: str, metadata: str
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            Metadata.refusals = [429, 500, 503] * 10

    notice.wait(notice.CLOUDS[cloud], metadata, sleep=sleep)
    assert len(slept) == 31


def test_a_metadata_service_that_only_refuses_is_told(metadata: str) -> None:
    Metadata.refusals = [403] * 5
    with pytest.raises(CkptdError, match="metadata service of gcp"):
        notice.wait(notice.CLOUDS["gcp"], metadata, sleep=lambda _: None)
    assert Metadata.refusals == []


def test_a_metadata_service_that_is_not_there_is_told_and_not_waited_for_for_ever() -> None:
    slept: list[float] = []
    with pytest.raises(CkptdError, match="metadata service of aws"):
        notice.wait(notice.CLOUDS["aws"], "http://127.0.0.1:9", sleep=slept.append)
    assert len(slept) == 4


def test_a_spot_notice_drains_the_node(daemon: Daemon, metadata: str) -> None:
    saved(daemon, "run-a", 3, 1)
    done = daemon.ctl("drain", "--on-notice", "aws", "--metadata-url", metadata, "--deadline", "40s")
    assert "aws takes this node away in" in done.stderr
    assert daemon.checkpoint("run-a", 3)["state"] == "committed"  # type: ignore[index]


@pytest.mark.parametrize("soon", [False, True])
def test_a_spot_notice_waits_for_a_daemon_that_is_being_started_again(
    daemon: Daemon, metadata: str, *, soon: bool
) -> None:
    saved(daemon, "run-a", 3, 1)
    daemon.crash()
    Metadata.announced, Metadata.soon = True, soon
    limit = () if soon else ("--deadline", "40s")
    with draining(daemon, "--on-notice", "aws", "--metadata-url", metadata, *limit) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        daemon.start()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    assert (json.loads(out)["deadline_at"] is None) is soon
    assert daemon.checkpoint("run-a", 3)["state"] == "committed"  # type: ignore[index]
