"""Killed in the middle of a transfer: only the parts that were on their way go again (2 GiB: tests/bench/bench_resend.py)."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers.fault_proxy import FaultProxy
from tests_node_bucket import PART, TRANSFER, Bucket, options, parts_sent, stretches
from tests_node_daemon import MIB, Daemon, save

pytestmark = [pytest.mark.s3, pytest.mark.slow]

NewDaemon = Callable[..., Daemon]
PARTS = 24
IN_FLIGHT = 4
"""`parallel` in TRANSFER."""
SLOW = TRANSFER + '\nbandwidth = "40MiB"'


@pytest.fixture
def proxy(s3_proxied: Any) -> FaultProxy:
    proxy = s3_proxied.proxy
    assert isinstance(proxy, FaultProxy)
    return proxy


@pytest.fixture
def bucket(s3_server: Any, s3_proxied: Any) -> Iterator[Bucket]:
    bucket = Bucket(s3_server, s3_proxied.url)
    yield bucket
    bucket.clear()


@pytest.fixture
def make(new_daemon: NewDaemon, s3_proxied: Any) -> NewDaemon:
    def daemon(transfer: str) -> Daemon:
        made = new_daemon(remote=s3_proxied.url, options=options(s3_proxied), transfer=transfer)
        made.start()
        return made

    return daemon


def kill_worker(daemon: Daemon) -> None:
    os.kill(daemon.worker_pid(), signal.SIGKILL)


def kill_everything(daemon: Daemon) -> None:
    daemon.crash()
    daemon.start()


def sent_again(counts: Counter[int]) -> int:
    assert max(counts.values()) <= 2
    return sum(count - 1 for count in counts.values())


@pytest.mark.parametrize("kill", [kill_worker, kill_everything])
def test_a_killed_daemon_sends_again_only_what_was_on_its_way(
    make: NewDaemon, proxy: FaultProxy, bucket: Bucket, kill: Callable[[Daemon], None]
) -> None:
    daemon = make(SLOW)
    content = os.urandom(PARTS * PART)
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": content, "DONE": b""})
    daemon.until(lambda: len(parts_sent(proxy.finished)) >= PARTS // 3, "a third is there")
    kill(daemon)
    done = len(parts_sent(proxy.finished))
    assert done < PARTS - IN_FLIGHT, "it was over before the kill: this proves nothing"
    daemon.committed("run-1", 1)
    counts = parts_sent(proxy.seen)
    assert set(counts) == set(range(1, PARTS + 1))
    assert sent_again(counts) <= IN_FLIGHT
    assert bucket.get("run-1/checkpoint-1/model.bin") == content
    assert bucket.unfinished() == []
    assert bucket.complaint() is None


@pytest.mark.parametrize("kill", [kill_worker, kill_everything])
def test_a_killed_daemon_fetches_again_only_what_was_on_its_way(
    make: NewDaemon, proxy: FaultProxy, bucket: Bucket, kill: Callable[[Daemon], None]
) -> None:
    first = make(TRANSFER)
    content = os.urandom(PARTS * PART)
    save(first.volume / "run-1/checkpoint-1", {"model.bin": content, "DONE": b""})
    first.committed("run-1", 1)
    first.terminate()
    second = make(SLOW)
    second.ctl("prefetch", "run-1", "--no-wait")
    second.until(lambda: len(stretches(proxy.ranges, "model.bin")) >= PARTS // 3, "a third was asked for")
    kill(second)
    assert len(stretches(proxy.ranges, "model.bin")) < PARTS - IN_FLIGHT, "this proves nothing"
    path = second.volume / "run-1/checkpoint-1/model.bin"
    second.until(path.exists, "it is there")
    assert path.read_bytes() == content
    counts = stretches(proxy.ranges, "model.bin")
    assert len(counts) == PARTS
    assert sent_again(counts) <= IN_FLIGHT
    assert not list((second.ram / "staging").iterdir())
    assert PARTS * PART == 120 * MIB
