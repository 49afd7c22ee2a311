"""Real daemons and a real S3 server: what is in the bucket, what another node makes of it, and what `up` says."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests_node_bucket import TRANSFER, Bucket, events, exposed, options, remote_ok
from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import Watching

from backends.checksum import decode

pytestmark = pytest.mark.s3

NewDaemon = Callable[..., Daemon]


@pytest.fixture
def bucket(s3_server: Any, s3_remote: Any) -> Iterator[Bucket]:
    bucket = Bucket(s3_server, s3_remote.url)
    yield bucket
    bucket.clear()


@pytest.fixture
def on_s3(new_daemon: NewDaemon, s3_remote: Any, bucket: Bucket) -> NewDaemon:
    """Makes daemons on one fresh prefix."""

    def make(**settings: Any) -> Daemon:
        return new_daemon(remote=s3_remote.url, options=options(s3_remote), transfer=TRANSFER, **settings)

    return make


def test_a_checkpoint_lies_plain_in_the_bucket_with_the_checksums_of_its_manifest(
    on_s3: NewDaemon, bucket: Bucket
) -> None:
    daemon = on_s3()
    daemon.start()
    files = {"model.bin": os.urandom(12 * MIB), "exact.bin": os.urandom(10 * MIB), "small.bin": b"s", "empty.bin": b""}
    with Watching(bucket.complaint, pause_s=0.05) as watching:
        save(daemon.volume / "run-42/checkpoint-100", files | {"DONE": b""})
        found = daemon.committed("run-42", 100)
    assert watching.complaint is None
    assert found["durable_bytes"] == found["bytes"] == 22 * MIB + 1
    assert [key for key in bucket.names() if not key.startswith(".ckptd/")] == sorted(
        f"run-42/checkpoint-100/{name}" for name in [*files, "DONE"]
    )
    (manifest,) = bucket.manifests().values()
    entries = {entry["key"]: entry for entry in manifest["files"]}
    for name, content in files.items():
        key = f"run-42/checkpoint-100/{name}"
        assert bucket.get(key) == content
        head, entry = bucket.head(key), entries[key]
        assert (head["ContentLength"], head["ETag"]) == (len(content), entry["etag"])
        assert f"{decode(head['ChecksumCRC64NVME']):016x}" == entry["crc64nvme"]
    assert len(entries["run-42/checkpoint-100/model.bin"]["parts"]) == 3
    assert bucket.unfinished() == []
    assert not [key for key in bucket.names() if "probe" in key]


def test_another_node_fetches_it_as_it_was(on_s3: NewDaemon) -> None:
    first, second = on_s3(), on_s3()
    first.start()
    content = {"model.bin": os.urandom(12 * MIB), "trainer_state.json": b"{}"}
    save(first.volume / "run-42/checkpoint-100", content)
    os.chmod(first.volume / "run-42/checkpoint-100/model.bin", 0o640)
    first.committed("run-42", 100)
    second.start()
    assert second.json("prefetch", "run-42")["state"] == "done"
    path = Path(second.ctl("latest", "run-42").stdout.strip())
    assert {name: (path / name).read_bytes() for name in content} == content
    assert (path / "model.bin").stat().st_mode & 0o777 == 0o640
    second.ctl("verify", "run-42@100", "--remote")
    destination = second.home / "restored"
    second.ctl("restore", "run-42@100", str(destination))
    assert b"".join(sorted(p.read_bytes() for p in destination.rglob("*") if p.is_file())) == b"".join(
        sorted(content.values())
    )


def test_bytes_that_flip_in_the_bucket_are_found_and_never_offered(on_s3: NewDaemon, bucket: Bucket) -> None:
    first, second = on_s3(), on_s3()
    first.start()
    content = bytearray(os.urandom(12 * MIB))
    save(first.volume / "run-1/checkpoint-1", {"model.bin": bytes(content), "DONE": b""})
    first.committed("run-1", 1)
    content[7 * MIB] ^= 1
    bucket.put("run-1/checkpoint-1/model.bin", bytes(content))
    second.start()
    failed = second.ctl("prefetch", "run-1", check=6)
    assert "run-1/checkpoint-1/model.bin" in failed.stderr
    assert not (second.volume / "run-1/checkpoint-1/model.bin").exists()
    # The other node has told of it, and this one has sent it again from its own copy.
    first.committed("run-1", 1)
    assert bucket.get("run-1/checkpoint-1/model.bin") == (first.volume / "run-1/checkpoint-1/model.bin").read_bytes()
    first.ctl("verify", "run-1", "--remote")


def test_rm_remote_leaves_nothing_of_the_run(on_s3: NewDaemon, bucket: Bucket) -> None:
    daemon = on_s3()
    daemon.start()
    for step in (1, 2):
        save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": os.urandom(6 * MIB), "DONE": b""})
    save(daemon.volume / "run-2/checkpoint-1", {"model.bin": b"2", "DONE": b""})
    (daemon.volume / "run-1/train.log").write_bytes(b"log")
    daemon.ctl("flush")
    with Watching(bucket.complaint, pause_s=0.02) as watching:
        daemon.ctl("rm", "run-1", "--remote", "--yes")
    assert watching.complaint is None
    daemon.until(lambda: not [key for key in bucket.names() if "run-1" in key], "nothing of run-1 left")
    assert bucket.unfinished() == []
    assert {key for key in bucket.names() if "run-2" in key} >= {"run-2/checkpoint-1/model.bin"}
    assert daemon.checkpoint("run-2", 1)["state"] == "committed"


def test_two_daemons_of_one_name_that_commit_the_same_step_at_once(on_s3: NewDaemon, bucket: Bucket) -> None:
    """Misconfigured: the manifest's conditional write lets one of them commit, and the other one says what is wrong. Had the
    latter sent its file over the former's by then, nobody gets a mixture: the checksum in the manifest refuses it.
    """
    daemons = [on_s3(node="twin"), on_s3(node="twin")]
    for daemon in daemons:
        daemon.start()
    contents = [os.urandom(6 * MIB) for _ in daemons]

    def work(number: int) -> None:
        save(daemons[number].volume / "run-1/checkpoint-1", {"model.bin": contents[number], "DONE": b""})

    writers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    def states() -> list[str | None]:
        return [(daemon.checkpoint("run-1", 1) or {}).get("state") for daemon in daemons]

    daemons[0].until(lambda: "committed" in states(), "one commits")
    daemons[0].until(
        lambda: any(event["event"] == "node.namesake" for daemon in daemons for event in daemon.json("events")),
        "the other one says why it cannot",
    )
    assert all(daemon.json("status")["restarts"] == 0 for daemon in daemons)
    for daemon, content in zip(daemons, contents, strict=True):
        assert (daemon.volume / "run-1/checkpoint-1/model.bin").read_bytes() == content
    third = on_s3()
    third.start()
    done = third.ctl("prefetch", "run-1", check=None)
    there = third.volume / "run-1/checkpoint-1/model.bin"
    assert (done.returncode == 0 and there.read_bytes() in contents) or (done.returncode != 0 and not there.exists())


class TestUp:
    """What can never work is refused with a hint; what only does not answer now is not."""

    @pytest.mark.parametrize(
        ("url", "changed", "message", "hint", "code"),
        [
            ("s3://no-such-bucket-here/p", {}, "no such bucket", "create the bucket", 1),
            ("", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY", 1),
            ("", {"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID", 1),
            ("", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "credentials", "AWS_ACCESS_KEY_ID", 1),
            ("ftp://somewhere/p", {}, "no backend for ftp://", "s3://", 2),
            ("s3://Bad_Bucket!/p", {}, "ucket", "", 2),
        ],
        ids=["bucket", "secret", "key", "no keys", "scheme", "name"],
    )
    def test_it_is_refused(
        self,
        new_daemon: NewDaemon,
        s3_remote: Any,
        url: str,
        changed: dict[str, str],
        message: str,
        hint: str,
        code: int,
    ) -> None:
        text = "" if url.startswith("ftp") else options(s3_remote)
        daemon = new_daemon(remote=url or s3_remote.url, options=text, environment=changed)
        done = daemon.ctl(
            "up", "--config", str(daemon.config), "--state-dir", f"{daemon.home}/state", "--socket", f"{daemon.home}/s",
            check=code,
        )  # fmt: skip
        said = done.stderr
        assert message in said
        assert hint in said
        assert "Traceback" not in said
        daemon.ctl("status", check=3)

    def test_an_endpoint_that_does_not_answer_is_a_warning(
        self, new_daemon: NewDaemon, s3_remote: Any, s3_server: Any, bucket: Bucket
    ) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # nobody listens
            port = taken.getsockname()[1]
            wrong = options(s3_remote, endpoint_url=f"http://127.0.0.1:{port}")
            daemon = new_daemon(remote=s3_remote.url, options=wrong, transfer=TRANSFER)
            daemon.start()
            assert not remote_ok(daemon)
            event = events(daemon)["remote.unreachable"]
            assert f"127.0.0.1:{port}" in event["message"]
            assert "endpoint_url" in event["fields"]["hint"]
            save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"1" * 1000, "DONE": b""})
            daemon.state_is("run-1", 1, "complete")
            assert exposed(daemon) == 1000
            assert "unreachable" in daemon.ctl("status").stdout
            assert daemon.ctl("flush", "--timeout", "1s", check=5).stderr
            daemon.ctl("down", "--no-flush")


def test_a_remote_that_was_away_at_up_is_met_again_by_itself(
    new_daemon: NewDaemon, s3_proxied: Any, s3_server: Any
) -> None:
    proxy, bucket = s3_proxied.proxy, Bucket(s3_server, s3_proxied.url)
    other = new_daemon(remote=s3_proxied.url, options=options(s3_proxied))
    other.start()
    save(other.volume / "run-1/checkpoint-1", {"model.bin": b"1" * 1000, "DONE": b""})
    other.committed("run-1", 1)
    other.terminate()
    proxy.down()
    daemon = new_daemon(remote=s3_proxied.url, options=options(s3_proxied))
    daemon.start()
    assert not remote_ok(daemon)
    assert daemon.json("ls") == []
    proxy.heal()
    daemon.until(lambda: remote_ok(daemon), "met again", timeout=15)
    assert [run["run"] for run in daemon.json("ls")] == ["run-1"]
    daemon.until(lambda: "remote.back" in events(daemon), "told")
    bucket.clear()


def test_a_remote_of_a_newer_format_that_was_away_at_up_is_never_written_to(
    new_daemon: NewDaemon, s3_proxied: Any, s3_server: Any
) -> None:
    proxy, bucket = s3_proxied.proxy, Bucket(s3_server, s3_proxied.url)
    bucket.put(".ckptd/format", b'{"version": 2}')
    proxy.down()
    daemon = new_daemon(remote=s3_proxied.url, options=options(s3_proxied))
    daemon.start()
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"1" * 1000, "DONE": b""})
    daemon.state_is("run-1", 1, "complete")
    proxy.heal()
    daemon.until(lambda: "format version 2" in str(events(daemon)), "told", timeout=15)
    assert bucket.names() == [".ckptd/format"]
    assert exposed(daemon) == 1000
    assert not remote_ok(daemon)
    daemon.ctl("down", "--no-flush")
    bucket.clear()


def test_objects_that_others_changed_or_deleted_are_sent_again_and_never_offered(
    on_s3: NewDaemon, bucket: Bucket
) -> None:
    first, second = on_s3(node="a"), on_s3(node="b")
    first.start()
    content = os.urandom(12 * MIB)
    for step in (1, 2):
        save(first.volume / f"run-1/checkpoint-{step}", {"model.bin": content, "config.json": b"{}", "DONE": b""})
        first.committed("run-1", step)
    bucket.put("run-1/checkpoint-2/model.bin", bytes(12 * MIB))
    bucket.delete("run-1/checkpoint-2/config.json")
    refused = first.ctl("scrub", "run-1@2", "--remote", check=6).stderr
    assert "run-1/checkpoint-2/model.bin" in refused
    assert "run-1/checkpoint-2/config.json" in refused
    first.committed("run-1", 2)
    assert bucket.get("run-1/checkpoint-2/model.bin") == content
    assert bucket.get("run-1/checkpoint-2/config.json") == b"{}"
    assert bucket.complaint() is None
    # With no good copy anywhere: torn on both nodes, and nothing is deleted.
    first.ctl("evict", "run-1@2")
    bucket.put("run-1/checkpoint-2/model.bin", bytes(12 * MIB))
    second.start()
    assert "the next best is run-1@1" in second.ctl("prefetch", "run-1", check=6).stderr
    for node in (first, second):
        assert "model.bin" in node.state_is("run-1", 2, "torn")["reason"]
        assert node.json("latest", "run-1")["step"] == 1
    assert bucket.get("run-1/checkpoint-2/model.bin") == bytes(12 * MIB)
    # The same bytes under another version are as good as the first.
    bucket.put("run-1/checkpoint-2/model.bin", content)
    second.ctl("scrub", "run-1@2", "--remote")
    first.committed("run-1", 2)
    assert second.json("prefetch", "run-1@2")["state"] == "done"
    assert (second.volume / "run-1/checkpoint-2/model.bin").read_bytes() == content
