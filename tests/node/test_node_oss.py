"""Real daemons and an OSS (`servers.oss_gateway`, or a real one): the main path, kills, keys that end, and what `up` says."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers.oss_server import OssGateway, OssRemote
from tests_node_bucket import TRANSFER, content_of, events, exposed, options, parts_sent
from tests_node_daemon import MIB, Daemon, save

from backends.contract.sources import keys
from backends.oss import OssBackend

pytestmark = pytest.mark.oss

NewDaemon = Callable[..., Daemon]
PART = 5 * MIB


def seen_from_outside(remote: OssRemote) -> OssBackend:
    return OssBackend.from_url(remote.url, remote.options)


@pytest.fixture
def on_oss(new_daemon: NewDaemon, oss_remote: OssRemote) -> NewDaemon:
    def make(**settings: Any) -> Daemon:
        return new_daemon(remote=oss_remote.url, options=options(oss_remote), transfer=TRANSFER, **settings)

    return make


def test_a_checkpoint_becomes_durable_and_hot_on_another_node(on_oss: NewDaemon, oss_remote: OssRemote) -> None:
    first, second, store = on_oss(), on_oss(), seen_from_outside(oss_remote)
    first.start()
    files = {"model.bin": os.urandom(12 * MIB), "exact.bin": os.urandom(10 * MIB), "small.bin": b"s", "empty.bin": b""}
    save(first.volume / "run-42/checkpoint-100", files | {"DONE": b""})
    first.committed("run-42", 100)
    for name, content in files.items():
        assert content_of(store, f"run-42/checkpoint-100/{name}") == content
    (manifest,) = [key for key in keys(store, ".ckptd/manifests/") if key.endswith(".json")]
    entries = {entry["key"]: entry for entry in json.loads(content_of(store, manifest))["files"]}
    assert entries["run-42/checkpoint-100/model.bin"]["etag"] == store.head("run-42/checkpoint-100/model.bin").etag  # type: ignore[union-attr]
    assert list(store.pending("")) == []
    assert not [key for key in keys(store) if "probe" in key]
    second.start()
    assert second.json("prefetch", "run-42")["state"] == "done"
    path = Path(second.ctl("latest", "run-42").stdout.strip())
    assert {name: (path / name).read_bytes() for name in files} == files
    second.ctl("verify", "run-42@100", "--remote")
    first.ctl("rm", "run-42", "--remote", "--yes")
    first.until(lambda: not [key for key in keys(store) if "run-42" in key], "nothing of it left")
    first.ctl("down")
    second.ctl("down")
    store.delete(keys(store))  # it may be a real bucket
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("everything", [False, True], ids=["worker", "everything"])
def test_a_killed_daemon_sends_again_only_what_was_on_its_way(
    new_daemon: NewDaemon, oss_proxied: OssRemote, everything: bool
) -> None:
    parts, in_flight, proxy, store = 20, 4, oss_proxied.proxy, seen_from_outside(oss_proxied)
    slow = TRANSFER + '\nbandwidth = "12MiB"'
    daemon = new_daemon(remote=oss_proxied.url, options=options(oss_proxied), transfer=slow)
    daemon.start()
    content = os.urandom(parts * PART)
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": content, "DONE": b""})
    daemon.until(lambda: len(parts_sent(proxy.finished)) >= parts // 3, "a third is there")
    if everything:
        daemon.crash()
        daemon.start()
    else:
        os.kill(daemon.worker_pid(), signal.SIGKILL)
    assert len(parts_sent(proxy.finished)) < parts - in_flight, "it was over before the kill: this proves nothing"
    daemon.committed("run-1", 1)
    counts = parts_sent(proxy.seen)
    assert set(counts) == set(range(1, parts + 1))
    assert sum(counts.values()) - parts <= in_flight
    assert content_of(store, "run-1/checkpoint-1/model.bin") == content
    assert list(store.pending("")) == []
    store.close()


def test_what_did_not_change_is_copied_and_not_sent(new_daemon: NewDaemon, oss_proxied: OssRemote) -> None:
    proxy, store = oss_proxied.proxy, seen_from_outside(oss_proxied)
    daemon = new_daemon(remote=oss_proxied.url, options=options(oss_proxied), transfer=TRANSFER)
    daemon.start()
    content = bytearray(os.urandom(4 * PART))
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": bytes(content), "DONE": b""})
    daemon.committed("run-1", 1)
    before = proxy.body_bytes
    content[PART + 1] ^= 1
    save(daemon.volume / "run-1/checkpoint-2", {"model.bin": bytes(content), "DONE": b""})
    daemon.committed("run-1", 2)
    assert PART <= proxy.body_bytes - before < 2 * PART
    assert content_of(store, "run-1/checkpoint-2/model.bin") == bytes(content)
    daemon.ctl("verify", "run-1@2", "--remote")
    store.close()


def test_a_token_that_ends_is_said_so_and_work_goes_on_when_it_is_renewed(
    new_daemon: NewDaemon, oss_proxied: OssRemote, oss_gateway: OssGateway, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"

    def hand_out(number: int, ends: float = 0.0) -> None:
        good = {"secret": f"s{number}", "token": f"t{number}"} | ({"ends": ends} if ends else {})
        oss_gateway.control(keys={f"STS.{number}": good})
        keys = {"AccessKeyId": f"STS.{number}", "AccessKeySecret": f"s{number}", "SecurityToken": f"t{number}"}
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps(keys))
        beside.replace(file)

    hand_out(1)
    daemon = new_daemon(
        remote=oss_proxied.url, options=options(oss_proxied, credentials_file=str(file)),
        transfer=TRANSFER + '\nbandwidth = "20MiB"', environment={"OSS_ACCESS_KEY_ID": "", "OSS_ACCESS_KEY_SECRET": ""},
    )  # fmt: skip
    daemon.start()
    content = os.urandom(8 * PART)
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": content, "DONE": b""})
    daemon.until(lambda: len(parts_sent(oss_proxied.proxy.finished)) >= 2, "some parts are there")
    hand_out(1, ends=time.time() - 1)
    found = daemon.until(lambda: events(daemon).get("remote.unreachable"), "the operator is told")
    assert "SecurityTokenExpired" in found["message"]
    assert "credentials_file" in found["fields"]["hint"]
    assert exposed(daemon) == len(content)
    hand_out(2)
    daemon.committed("run-1", 1, timeout=60)
    again = sum(parts_sent(oss_proxied.proxy.finished).values()) - 8
    assert again <= 16  # parts that were refused; those that had arrived did not go again


class TestUp:
    """What can never work is refused with its fix, by `up` and by `doctor`."""

    @pytest.mark.parametrize(
        ("url", "changed", "settings", "control", "message", "hint", "code"),
        [
            ("oss://ckptd-missing/p", {}, {}, {}, "no such bucket", "create the bucket", 1),
            ("oss://ckptd-elsewhere/p", {}, {}, {}, "oss-cn-other.aliyuncs.com", "endpoint_url", 2),
            ("", {"OSS_ACCESS_KEY_ID": ""}, {}, {}, "OSS_ACCESS_KEY_ID", "set OSS_ACCESS_KEY_ID", 1),
            ("", {}, {}, {"clock": 3600.0}, "RequestTimeTooSkewed", "chrony", 1),
            ("", {}, {"access_key_secret": "hunter2"}, {}, "secrets", "credentials_file", 2),
        ],
        ids=["bucket", "endpoint", "no keys", "clock", "secret in a file"],
    )
    def test_it_is_refused(
        self, new_daemon: NewDaemon, oss_gateway: OssGateway, oss_environment: None, url: str, changed: dict[str, str],
        settings: dict[str, str], control: dict[str, Any], message: str, hint: str, code: int,
    ) -> None:  # fmt: skip
        remote = OssRemote(url or "oss://ckptd-test/up", oss_gateway.options)
        oss_gateway.control(**control)
        daemon = new_daemon(remote=remote.url, options=options(remote, **settings), environment=changed)
        said = daemon.ctl(
            "up", "--config", str(daemon.config), "--state-dir", f"{daemon.home}/state", "--socket", f"{daemon.home}/s",
            check=code,
        ).stderr  # fmt: skip
        assert message in said
        assert hint in said
        assert "hunter2" not in said
        assert "Traceback" not in said

    def test_doctor_says_it_too(self, new_daemon: NewDaemon, oss_gateway: OssGateway, oss_environment: None) -> None:
        remote = OssRemote("oss://ckptd-elsewhere/p", oss_gateway.options)
        daemon = new_daemon(remote=remote.url, options=options(remote))
        done = daemon.ctl("doctor", "--config", str(daemon.config), check=None)
        said = " ".join((done.stdout + done.stderr).split())
        assert "oss-cn-other.aliyuncs.com" in said
        assert "endpoint_url" in said
