"""Real daemons, a real S3 server, and trouble in between: the job never notices, and what was promised holds."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.fault_proxy import Fault, FaultProxy
from tests_node_bucket import PART, TRANSFER, Bucket, events, exposed, options, parts_sent, remote_ok
from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import Watching

pytestmark = pytest.mark.s3

NewDaemon = Callable[..., Daemon]


@pytest.fixture
def proxy(s3_proxied: Any) -> FaultProxy:
    proxy = s3_proxied.proxy
    assert isinstance(proxy, FaultProxy)
    return proxy


@pytest.fixture
def bucket(s3_server: Any, s3_proxied: Any) -> Iterator[Bucket]:
    """Looked at all the time: no manifest may ever speak of what is not there."""
    bucket, watched = Bucket(s3_server, s3_proxied.url), Bucket(s3_server, s3_proxied.url)
    with Watching(watched.complaint, pause_s=0.05) as watching:
        yield bucket
    assert watching.complaint is None
    assert watching.looks > 3
    watched.close()
    bucket.clear()


@pytest.fixture
def make(new_daemon: NewDaemon, s3_proxied: Any, bucket: Bucket) -> NewDaemon:
    def daemon(*, transfer: str = TRANSFER, **settings: Any) -> Daemon:
        made = new_daemon(remote=s3_proxied.url, options=options(s3_proxied), transfer=transfer, **settings)
        made.start()
        return made

    return daemon


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("PUT", r"partNumber=2", answer=500), Fault("POST", r"uploadId", answer=500)],
        [Fault("PUT", r"partNumber", answer=503, code="SlowDown", retry_after=1)] * 3,
        [Fault("PUT", r"partNumber=3", reset_after=2 * MIB), Fault("PUT", r"partNumber=1", reset_answer_after=0)],
        [Fault("PUT", r"partNumber=2", stall_after=2 * MIB, stall=60)],
        [Fault("PUT", r"partNumber=1", corrupt_at=MIB), Fault("PUT", r"DONE", corrupt_at=0)],
        [Fault("PUT", r"partNumber=2", answer=400, code="BadDigest")],
        [Fault("PUT", r"manifests", answer=503), Fault("PUT", r"manifests", reset_answer_after=0)],
        [Fault("PUT", r"partNumber=2", answer=404, code="NoSuchUpload")],
    ],
    ids=["500", "slow down", "reset", "stall", "flipped", "bad digest", "manifest", "upload gone"],
)
def test_a_checkpoint_is_committed_whatever_happens_to_its_parts(
    make: NewDaemon, proxy: FaultProxy, bucket: Bucket, faults: list[Fault]
) -> None:
    daemon = make()
    for fault in faults:
        proxy.inject(fault)
    content = os.urandom(3 * PART + 1)
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": content, "DONE": b"done"})
    daemon.committed("run-1", 1)
    assert proxy.unused == 0
    assert bucket.get("run-1/checkpoint-1/model.bin") == content
    assert bucket.unfinished() == []
    assert remote_ok(daemon)
    assert exposed(daemon) == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", r"model\.bin", answer=503, code="SlowDown"),
        Fault("GET", r"model\.bin", reset_answer_after=MIB),
        Fault("GET", r"model\.bin", cut_answer_after=MIB),
        Fault("GET", r"model\.bin", stall_answer_after=MIB, stall=60),
        Fault("GET", r"model\.bin", corrupt_answer_at=MIB),
    ],
    ids=["slow down", "reset", "cut", "stall", "flipped"],
)
def test_a_prefetch_succeeds_whatever_happens_to_its_parts(make: NewDaemon, proxy: FaultProxy, fault: Fault) -> None:
    first, second = make(), make()
    content = os.urandom(3 * PART + 1)
    save(first.volume / "run-1/checkpoint-1", {"model.bin": content, "DONE": b"done"})
    first.committed("run-1", 1)
    proxy.inject(fault, times=2)
    assert second.json("prefetch", "run-1")["state"] == "done"
    assert proxy.unused == 0
    assert (second.volume / "run-1/checkpoint-1/model.bin").read_bytes() == content


@pytest.mark.slow
def test_a_server_that_stops_for_a_while_is_not_the_jobs_trouble(
    make: NewDaemon, proxy: FaultProxy, bucket: Bucket
) -> None:
    daemon = make()
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": os.urandom(3 * PART), "DONE": b""})
    daemon.until(lambda: parts_sent(proxy.seen), "an upload has begun")
    proxy.down()
    began = time.monotonic()
    contents = {step: os.urandom(PART + step) for step in (2, 3)}
    for step, content in contents.items():
        save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": content, "DONE": b""})
        daemon.state_is("run-1", step, "complete", timeout=10)
    assert exposed(daemon) >= 2 * PART
    assert daemon.ctl("latest", "run-1").stdout.strip().endswith("checkpoint-3")
    daemon.ctl("flush", "--timeout", "1s", check=5)
    daemon.until(lambda: not remote_ok(daemon), "noticed", timeout=15)
    told = events(daemon)["remote.unreachable"]
    assert told["fields"]["volume"] == "ckpt"
    assert proxy.endpoint in told["message"]
    assert "unreachable" in daemon.ctl("status").stdout
    while time.monotonic() - began < 7:
        time.sleep(0.1)
    proxy.heal()
    for step in (1, 2, 3):
        daemon.committed("run-1", step, timeout=25)
    assert exposed(daemon) == 0
    assert remote_ok(daemon)
    daemon.until(lambda: "remote.back" in events(daemon), "told")
    assert all(bucket.get(f"run-1/checkpoint-{step}/model.bin") == content for step, content in contents.items())
    assert bucket.unfinished() == []
    assert daemon.json("status")["restarts"] == 0


def test_expired_credentials_are_read_again_when_somebody_renewed_them(
    new_daemon: NewDaemon, s3_proxied: Any, proxy: FaultProxy, bucket: Bucket, s3_server: Any, tmp_path: Path
) -> None:
    keys = tmp_path / "credentials"
    admin = ("ckptd-admin", "ckptd-admin-secret")

    def hand_out(access: str, secret: str) -> None:
        fresh = keys.with_suffix(".new")
        fresh.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
        fresh.rename(keys)

    hand_out(*admin)
    environment = {
        "AWS_SHARED_CREDENTIALS_FILE": str(keys), "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None,
    }  # fmt: skip
    daemon = new_daemon(remote=s3_proxied.url, options=options(s3_proxied), transfer=TRANSFER)
    daemon.environment = {k: v for k, v in (daemon.environment | environment).items() if v is not None}
    daemon.start()
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"1" * 1000, "DONE": b""})
    daemon.committed("run-1", 1)
    proxy.expired.add(admin[0])
    save(daemon.volume / "run-1/checkpoint-2", {"model.bin": os.urandom(2 * PART), "DONE": b""})
    daemon.until(lambda: not remote_ok(daemon), "noticed", timeout=10)
    assert exposed(daemon) == 2 * PART
    told = events(daemon)["remote.unreachable"]
    assert "ExpiredToken" in told["message"]
    assert "log in again" in told["fields"]["hint"]
    assert "ExpiredToken" in daemon.ctl("status").stdout
    hand_out(s3_server.access_key, s3_server.secret_key)
    daemon.committed("run-1", 2, timeout=20)
    daemon.until(lambda: "remote.back" in events(daemon), "told")
    assert exposed(daemon) == 0


def test_a_file_that_is_overwritten_while_it_is_sent_leaves_no_unfinished_upload(
    make: NewDaemon, proxy: FaultProxy, bucket: Bucket
) -> None:
    daemon = make()
    proxy.bandwidth = 2 * MIB
    place = daemon.volume / "run-1/checkpoint-1"
    save(place, {"model.bin": os.urandom(6 * PART), "DONE": b""})
    daemon.until(lambda: len(parts_sent(proxy.finished)) >= 1, "under way")
    content = os.urandom(6 * PART)
    save(place, {"model.bin": content, "DONE": b""})
    proxy.bandwidth = 0
    daemon.until(lambda: "run-1/checkpoint-1/model.bin" in bucket.names(), "the new one")
    daemon.until(
        lambda: (
            (daemon.checkpoint("run-1", 1) or {}).get("state") == "committed"
            and bucket.get("run-1/checkpoint-1/model.bin") == content
        ),
        "the new content committed",
    )
    daemon.until(lambda: not bucket.unfinished(), "no unfinished upload")


def test_a_file_that_is_deleted_while_it_is_sent_leaves_nothing(
    make: NewDaemon, proxy: FaultProxy, bucket: Bucket
) -> None:
    daemon = make()
    proxy.bandwidth = 2 * MIB
    place = daemon.volume / "run-1/checkpoint-1"
    save(place, {"model.bin": os.urandom(6 * PART), "DONE": b""})
    daemon.until(lambda: len(parts_sent(proxy.finished)) >= 1, "under way")
    shutil.rmtree(place)
    proxy.bandwidth = 0
    daemon.until(lambda: not [name for name in bucket.names() if "run-1" in name], "no objects", timeout=25)
    daemon.until(lambda: not bucket.unfinished(), "no unfinished upload", timeout=25)
    assert exposed(daemon) == 0


def test_what_was_deleted_while_the_server_was_away_is_cleared_when_it_is_back(
    make: NewDaemon, proxy: FaultProxy, bucket: Bucket
) -> None:
    daemon = make()
    proxy.bandwidth = 2 * MIB
    place = daemon.volume / "run-1/checkpoint-1"
    save(place, {"model.bin": os.urandom(6 * PART), "small.bin": b"s", "DONE": b""})
    daemon.until(lambda: len(parts_sent(proxy.finished)) >= 1, "under way")
    proxy.down()
    shutil.rmtree(place)
    daemon.until(lambda: daemon.checkpoint("run-1", 1) is None, "forgotten")
    proxy.bandwidth = 0
    proxy.heal()
    daemon.until(lambda: not [name for name in bucket.names() if "run-1" in name], "no objects", timeout=30)
    daemon.until(lambda: not bucket.unfinished(), "no unfinished upload", timeout=30)


def test_checkpoints_that_come_and_go_under_faults_are_never_offered_half(
    make: NewDaemon, proxy: FaultProxy, bucket: Bucket
) -> None:
    """Saves, overwrites, deletions, while a tenth of all answers are errors: the bucket's watcher must stay content."""
    daemon = make(policy="keep_remote = 3")
    for _ in range(40):
        for fault in (Fault(answer=500), Fault("PUT", reset_after=1000), Fault(reset_answer_after=0)):
            proxy.inject(fault)
            proxy.inject(Fault(), times=9)
    for step in range(1, 7):
        save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": os.urandom(PART + step), "DONE": b""})
        if step % 2 == 0:
            save(daemon.volume / "run-1/checkpoint-1", {"model.bin": os.urandom(2 * PART), "DONE": b""})
        time.sleep(0.4)
    proxy.heal()
    daemon.committed("run-1", 6, timeout=60)
    assert daemon.json("flush", "--timeout", "60s")["state"] == "done"
    daemon.until(lambda: not bucket.unfinished(), "no unfinished upload", timeout=60)


def test_a_start_does_not_wait_for_all_manifests_and_knows_its_files_all_the_same(
    make: NewDaemon, proxy: FaultProxy, bucket: Bucket
) -> None:
    """A node that lost its catalog, at a remote that takes its time: nothing is sent again, nothing is taken back."""
    daemon = make()
    for step in (1, 2):
        save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": os.urandom(PART), "DONE": b"done"})
        daemon.committed("run-1", step)
    assert daemon.terminate() == 0
    for path in (daemon.home / "state").glob("catalog.db*"):
        path.unlink()
    proxy.seen.clear()
    proxy.inject(Fault("GET", r"manifests/run-1/\d", delay=8.0), times=2)
    begun = time.monotonic()
    daemon.start()
    assert proxy.unused == 0
    volume = daemon.json("status")["volumes"][0]
    if time.monotonic() - begun < 7:  # otherwise the machine was too slow to see it
        assert (volume["remote_ok"], "for the first time" in volume["remote_error"]) == (False, True)
    daemon.committed("run-1", 1)
    daemon.committed("run-1", 2)
    daemon.until(lambda: remote_ok(daemon), "met")
    assert exposed(daemon) == 0
    assert [path for method, path in proxy.seen if method in ("PUT", "POST", "DELETE") and "run-1" in path] == []
