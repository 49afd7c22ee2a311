"""Volumes with different remotes on one node: what one of them does is no concern of the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.fault_proxy import Fault, FaultProxy
from tests_node_bucket import PART, TRANSFER, Bucket, options
from tests_node_daemon import Daemon, save

pytestmark = pytest.mark.s3


@pytest.fixture
def bucket(s3_server: Any, s3_proxied: Any) -> Iterator[Bucket]:
    bucket = Bucket(s3_server, s3_proxied.url)
    yield bucket
    bucket.clear()


@pytest.fixture
def silent(s3_proxied: Any) -> FaultProxy:
    """A store that takes connections and requests, and never says a word, until `heal()`."""
    proxy = s3_proxied.proxy
    assert isinstance(proxy, FaultProxy)
    return proxy


def stop_answering(proxy: FaultProxy, method: str = "") -> None:
    proxy.inject(Fault(method, delay=300.0), times=100_000)


def two_volumes(new_daemon: Callable[..., Daemon], s3: Any, tmp_path: Path) -> tuple[Daemon, Path]:
    other = tmp_path / "other"
    daemon = new_daemon(
        remote=s3.url, transfer=TRANSFER, options=options(s3, read_timeout="15", connect_timeout="15"),
        policy=f'[[volumes]]\nname = "other"\npath = "{other}"\nremote = "file://{tmp_path}/well"\n'
        '[volumes.policy]\nsettle = "300ms"',
    )  # fmt: skip
    return daemon, other


def committed(daemon: Daemon, volume: str, step: int) -> bool:
    found = daemon.get("/v1/runs/run-1/checkpoints", volume=volume)
    return any(item["step"] == step and item["state"] == "committed" for item in found)


@pytest.mark.parametrize("what", ["", "PUT"], ids=["nothing", "everything but uploads"])
def test_a_remote_that_stops_answering_slows_no_other(
    new_daemon: Callable[..., Daemon], s3_proxied: Any, silent: FaultProxy, bucket: Bucket, tmp_path: Path,
    what: str,
) -> None:  # fmt: skip
    daemon, other = two_volumes(new_daemon, s3_proxied, tmp_path)
    daemon.start()
    silent.seen.clear()
    stop_answering(silent, what)
    for step in range(1, 9):  # more parts than may be on their way at a time
        files = {f"model-{number}.bin": os.urandom(PART) for number in range(5)}
        save(daemon.volume / f"run-1/checkpoint-{step}", files | {"DONE": b"done"})
    daemon.until(lambda: sum(method.startswith(what) for method, _ in silent.seen) >= 4, "its requests hang")
    answered = sum(method.startswith(what) for method, _ in silent.finished)
    for step in (1, 2):
        save(other / f"run-1/checkpoint-{step}", {"model.bin": os.urandom(3 * PART), "DONE": b"done"})
        daemon.until(lambda step=step: committed(daemon, "other", step), f"step {step} of the other volume", 30)
    assert daemon.json("prefetch", "run-1@1", "--volume", "other")["state"] == "done"
    assert daemon.json("verify", "run-1@2", "--remote", "--volume", "other")["state"] == "done"
    assert sum(method.startswith(what) for method, _ in silent.finished) == answered  # all the while it said nothing
    silent.heal()
    for step in range(1, 9):
        daemon.until(lambda step=step: committed(daemon, "ckpt", step), f"step {step} after it answers again", 60)


def test_a_start_does_not_wait_for_a_remote_that_does_not_answer(
    new_daemon: Callable[..., Daemon], s3_proxied: Any, silent: FaultProxy, bucket: Bucket, tmp_path: Path
) -> None:
    daemon, other = two_volumes(new_daemon, s3_proxied, tmp_path)
    stop_answering(silent)
    daemon.start()
    state = {volume["name"]: volume for volume in daemon.json("status")["volumes"]}
    assert (state["ckpt"]["remote_ok"], state["other"]["remote_ok"]) == (False, True)
    assert state["ckpt"]["remote_error"] == "it has not answered yet"
    save(other / "run-1/checkpoint-1", {"model.bin": os.urandom(PART), "DONE": b"done"})
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": os.urandom(PART), "DONE": b"done"})
    daemon.until(lambda: committed(daemon, "other", 1), "the other volume's checkpoint")
    silent.heal()
    daemon.until(lambda: committed(daemon, "ckpt", 1), "met at last", 60)
