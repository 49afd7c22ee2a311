"""A fine-tuning run with frozen weights: only what changed is sent, and every object stays whole by itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_node_bucket import PART, TRANSFER, Bucket, options
from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import safetensors

from ckptd.domain.model import Attributes, Checksums
from ckptd.engine.known import Committed
from ckptd.engine.reusing import STEPS_BACK, choose, index_of, steps_before
from ckptd.manifest import Manifest, ManifestEntry

NewDaemon = Callable[..., Daemon]

BASE = {
    "model-00001-of-00002.safetensors": safetensors(os.urandom(12 * MIB)),
    "model-00002-of-00002.safetensors": safetensors(os.urandom(3 * MIB)),
}
FROZEN = sum(len(content) for content in BASE.values())


def step_of(number: int) -> dict[str, bytes]:
    """Frozen weights, and what is trained."""
    return BASE | {
        "adapter_model.safetensors": safetensors(bytes([number]) * (64 << 10)),
        "optimizer.pt": os.urandom(100 << 10),
        "trainer_state.json": b'{"step": %d}' % number,
    }


def size(files: dict[str, bytes]) -> int:
    return sum(len(content) for content in files.values())


def saved(daemon: Daemon, number: int, files: dict[str, bytes]) -> dict[str, int]:
    """Saves it; returns what its commit says of its bytes."""
    save(daemon.volume / f"run-1/checkpoint-{number}", files)
    daemon.committed("run-1", number)
    told = [
        event["fields"]
        for event in daemon.json("events")
        if event["event"] == "checkpoint.committed" and event["fields"]["step"] == str(number)
    ]
    return {name: int(told[-1][name]) for name in ("bytes", "bytes_sent", "bytes_copied")}


class TestInADirectory:
    def test_frozen_weights_are_copied_and_objects_stay_plain(self, daemon: Daemon) -> None:
        for number in (1, 2, 3):
            files = step_of(number)
            told = saved(daemon, number, files)
            assert told["bytes"] == size(files)
            assert told["bytes_copied"] == (FROZEN if number > 1 else 0)
            assert told["bytes_sent"] == size(files) - told["bytes_copied"]
            lie = daemon.remote / f"run-1/checkpoint-{number}"
            assert {name: (lie / name).read_bytes() for name in files} == files
        status = daemon.json("status")["transfers"]
        assert status["copied_bytes"] == 2 * FROZEN
        assert status["sent_bytes"] < FROZEN + 3 * MIB
        daemon.ctl("rm", "run-1@1", "--remote", "--yes")
        daemon.ctl("rm", "run-1@2", "--remote", "--yes")
        daemon.ctl("verify", "run-1@3", "--remote")

    def test_it_can_be_switched_off(self, new_daemon: NewDaemon) -> None:
        daemon = new_daemon(transfer="reuse = false")
        daemon.start()
        for number in (1, 2):
            assert saved(daemon, number, step_of(number))["bytes_copied"] == 0

    def test_an_origin_that_others_changed_or_deleted_is_sent(self, daemon: Daemon) -> None:
        saved(daemon, 1, step_of(1))
        first, second = sorted(BASE)
        lie = daemon.remote / "run-1/checkpoint-1"
        (lie / first).unlink()
        (lie / second).write_bytes(b"x" * len(BASE[second]))
        files = step_of(2)
        assert saved(daemon, 2, files)["bytes_copied"] == 0
        assert {name: (daemon.remote / "run-1/checkpoint-2" / name).read_bytes() for name in files} == files

    def test_the_same_step_written_again_is_no_origin_of_itself(self, daemon: Daemon) -> None:
        saved(daemon, 1, step_of(1))
        files = step_of(2)
        name = "model-00001-of-00002.safetensors"
        changed = files | {name: safetensors(os.urandom(12 * MIB))}
        saved(daemon, 2, changed)
        directory = daemon.remote / "run-1/checkpoint-2"
        save(daemon.volume / "run-1/checkpoint-2", files)
        daemon.until(lambda: (directory / name).read_bytes() == files[name], "sent anew")
        daemon.committed("run-1", 2)
        daemon.ctl("verify", "run-1@2", "--remote")


@pytest.mark.s3
class TestOnS3:
    @pytest.fixture
    def bucket(self, s3_server: Any, s3_proxied: Any) -> Iterator[Bucket]:
        bucket = Bucket(s3_server, s3_proxied.url)
        yield bucket
        bucket.clear()

    @pytest.fixture
    def daemon(self, new_daemon: NewDaemon, s3_proxied: Any, bucket: Bucket) -> Daemon:
        made = new_daemon(remote=s3_proxied.url, options=options(s3_proxied, read_timeout="20"), transfer=TRANSFER)
        made.start()
        return made

    def test_the_server_receives_at_most_a_tenth_after_the_first(
        self, daemon: Daemon, s3_proxied: Any, bucket: Bucket
    ) -> None:
        """By the count of who stands before the server, not by our own."""
        saved(daemon, 1, step_of(1))
        for number in (2, 3):
            files, before = step_of(number), s3_proxied.proxy.body_bytes
            told = saved(daemon, number, files)
            assert s3_proxied.proxy.body_bytes - before <= size(files) / 10
            # The end of the first file, of 2 MiB and a header, is copied as well.
            assert told["bytes_copied"] == FROZEN
            for name, content in files.items():
                assert bucket.get(f"run-1/checkpoint-{number}/{name}") == content
        assert bucket.unfinished() == []
        assert bucket.complaint() is None
        daemon.ctl("rm", "run-1@1", "--remote", "--yes")
        daemon.ctl("verify", "run-1@3", "--remote")

    def test_a_part_that_changed_is_sent_alone(self, daemon: Daemon, s3_proxied: Any, bucket: Bucket) -> None:
        first = {"model.bin": os.urandom(4 * PART), "DONE": b""}
        saved(daemon, 1, first)
        content = bytearray(first["model.bin"])
        content[PART + 1] ^= 1
        before = s3_proxied.proxy.body_bytes
        told = saved(daemon, 2, {"model.bin": bytes(content), "DONE": b""})
        assert told["bytes_copied"] == 3 * PART
        assert PART <= s3_proxied.proxy.body_bytes - before < PART + 100_000
        assert bucket.get("run-1/checkpoint-2/model.bin") == content

    def test_another_node_goes_on_where_the_first_one_was(
        self, daemon: Daemon, new_daemon: NewDaemon, s3_proxied: Any
    ) -> None:
        saved(daemon, 1, step_of(1))
        other = new_daemon(remote=s3_proxied.url, options=options(s3_proxied, read_timeout="20"), transfer=TRANSFER)
        other.start()
        assert other.json("prefetch", "run-1")["state"] == "done"
        assert saved(other, 2, step_of(2))["bytes_copied"] == FROZEN


def entry(path: str, bytes_: int = 8 * MIB, etag: str = "e") -> ManifestEntry:
    sums = Checksums(bytes_, PART, tuple(range(-(-bytes_ // PART))), 7)
    return ManifestEntry(path, Attributes(0o644, 0, 0, 0), sums, None, etag)


def committed(step: int, *entries: ManifestEntry) -> Committed:
    manifest = Manifest("run-1", step, "n", 1, "plain", "w", "run-1", 1.0, 1.0, tuple(entries))
    return Committed({"n": manifest}, {"n": "1"})


class TestChoosing:
    """Pure."""

    @given(steps=st.lists(st.integers(0, 50), unique=True), step=st.integers(0, 50))
    def test_the_newest_steps_before_it(self, steps: list[int], step: int) -> None:
        found = steps_before(step, steps)
        assert found == sorted((each for each in steps if each < step), reverse=True)[:STEPS_BACK]

    def test_the_newest_that_has_a_file_of_the_same_name(self) -> None:
        indexes = [
            index_of(committed(3, entry("run-1/checkpoint-3/model.bin"))),
            index_of(committed(2, entry("run-1/checkpoint-2/model.bin"), entry("run-1/checkpoint-2/optimizer.bin"))),
        ]
        for name, step in (("model.bin", 3), ("optimizer.bin", 2)):
            found = choose(f"run-1/checkpoint-4/{name}", f"run-1/checkpoint-4/{name}", indexes, set())
            assert found is not None
            assert found.key == f"run-1/checkpoint-{step}/{name}"
        assert choose("run-1/checkpoint-4/other.bin", "k", indexes, set()) is None

    def test_no_key_that_is_being_deleted_or_is_its_own(self) -> None:
        key = "run-1/checkpoint-3/model.bin"
        index = index_of(committed(3, entry(key)))
        assert choose("run-1/checkpoint-4/model.bin", "k", [index], {key}) is None
        assert choose("run-1/checkpoint-4/model.bin", key, [index], set()) is None

    @pytest.mark.parametrize(
        "bad",
        [
            entry("run-1/checkpoint-3/model.bin", etag=""),
            entry("run-1/checkpoint-3/model.bin", bytes_=1000),
            replace(entry("run-1/checkpoint-3/model.bin"), checksums=Checksums(8 * MIB, PART, (1,), 7)),
            replace(entry("run-1/checkpoint-3/model.bin"), checksums=Checksums(8 * MIB, 0, (1,), 7)),
            replace(entry("run-1/checkpoint-3/model.bin"), checksums=None, link="elsewhere"),
        ],
        ids=["no version", "too small", "parts are missing", "no part size", "a link"],
    )
    def test_nothing_that_its_manifest_does_not_describe_well(self, bad: ManifestEntry) -> None:
        assert index_of(committed(3, bad)) == {}
