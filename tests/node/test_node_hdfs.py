"""Real daemons and a real HDFS: the main path, and what `up` and `doctor` say of a NameNode that cannot be used."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers.hdfs_cluster import HdfsRemote
from tests_node_bucket import TRANSFER, content_of, options
from tests_node_daemon import MIB, Daemon, save

from backends.contract.sources import keys
from backends.hdfs import HdfsBackend

pytestmark = pytest.mark.hdfs

NewDaemon = Callable[..., Daemon]


@pytest.fixture
def on_hdfs(new_daemon: NewDaemon, hdfs_remote: HdfsRemote) -> NewDaemon:
    def make(**settings: Any) -> Daemon:
        return new_daemon(remote=hdfs_remote.url, options=options(hdfs_remote), transfer=TRANSFER, **settings)

    return make


@pytest.fixture
def outside(hdfs_remote: HdfsRemote) -> HdfsBackend:
    return HdfsBackend.from_url(hdfs_remote.url, hdfs_remote.options)


def test_a_checkpoint_becomes_durable_and_hot_on_another_node(on_hdfs: NewDaemon, outside: HdfsBackend) -> None:
    first, second = on_hdfs(), on_hdfs()
    first.start()
    files = {"model.bin": os.urandom(12 * MIB), "exact.bin": os.urandom(10 * MIB), "a:b.bin": b"s", "empty.bin": b""}
    save(first.volume / "run-42/checkpoint-100", files | {"DONE": b""})
    first.committed("run-42", 100)
    for name, content in files.items():
        assert content_of(outside, f"run-42/checkpoint-100/{name}") == content
    (manifest,) = [key for key in keys(outside, ".ckptd/manifests/") if key.endswith(".json")]
    entries = {entry["key"]: entry for entry in json.loads(content_of(outside, manifest))["files"]}
    assert entries["run-42/checkpoint-100/model.bin"]["etag"] == outside.head("run-42/checkpoint-100/model.bin").etag  # type: ignore[union-attr]
    assert list(outside.pending("")) == []
    second.start()
    assert second.json("prefetch", "run-42")["state"] == "done"
    path = Path(second.ctl("latest", "run-42").stdout.strip())
    assert {name: (path / name).read_bytes() for name in files} == files
    second.ctl("verify", "run-42@100", "--remote")
    first.ctl("rm", "run-42", "--remote", "--yes")
    first.until(lambda: not [key for key in keys(outside) if "run-42" in key], "nothing of it left")
    first.ctl("down")
    second.ctl("down")


@pytest.mark.slow
def test_an_upload_is_finished_after_the_worker_was_killed(
    new_daemon: NewDaemon, hdfs_remote: HdfsRemote, outside: HdfsBackend
) -> None:
    slow = TRANSFER + '\nbandwidth = "12MiB"'
    daemon = new_daemon(remote=hdfs_remote.url, options=options(hdfs_remote), transfer=slow)
    daemon.start()
    content = os.urandom(60 * MIB)
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": content, "DONE": b""})

    def parts() -> set[str]:
        found = hdfs_remote.cluster.webhdfs("GET", f"{hdfs_remote.path}/.ckptd/tmp", "LISTSTATUS").json()
        uploads = [each["pathSuffix"] for each in found.get("FileStatuses", {"FileStatus": []})["FileStatus"]]
        listed = [
            hdfs_remote.cluster.webhdfs("GET", f"{hdfs_remote.path}/.ckptd/tmp/{upload}", "LISTSTATUS").json()
            for upload in uploads
            if not upload.startswith("put-")
        ]
        files = [file for each in listed for file in each.get("FileStatuses", {"FileStatus": []})["FileStatus"]]
        return {file["pathSuffix"] for file in files if file["type"] == "FILE" and file["length"] == 5 * MIB}

    daemon.until(lambda: len(parts()) >= 3, "three parts sent")
    os.kill(daemon.json("status")["pid"], signal.SIGKILL)  # its supervisor starts another
    daemon.committed("run-1", 1)
    assert content_of(outside, "run-1/checkpoint-1/model.bin") == content
    daemon.ctl("down")


@pytest.mark.parametrize(
    ("wrong", "words", "fatal"),
    [
        ("rpc port", ("RPC port", "dfs.namenode.http-address"), True),
        ("nobody there", ("refused", "dfs.namenode.http-address"), False),
        ("folder", ("no folder", "hdfs dfs -mkdir -p"), True),
        ("user", ("Permission denied", "user stranger"), True),
    ],
)
def test_up_and_doctor_say_what_is_wrong_and_how_to_mend_it(
    new_daemon: NewDaemon, hdfs_remote: HdfsRemote, wrong: str, words: tuple[str, ...], fatal: bool
) -> None:
    """A NameNode that nobody can reach just now stops no daemon: it may come back. All else would stay as it is."""
    cluster, more = hdfs_remote.cluster, ""
    url = {
        "rpc port": f"hdfs://127.0.0.1:{cluster.namenode_rpc}{hdfs_remote.path}",
        "nobody there": f"hdfs://127.0.0.1:1{hdfs_remote.path}",
        "folder": f"hdfs://127.0.0.1:{cluster.namenode_http}/not/there/at/all",
    }.get(wrong, hdfs_remote.url)
    if wrong == "user":
        more = 'user = "stranger"'
    daemon = new_daemon(
        remote=url,
        options=more or options(hdfs_remote),
    )
    told = daemon.ctl("doctor", "--config", str(daemon.config), check=1)
    assert all(word in told.stdout for word in words), told.stdout
    _, said = daemon.launch()
    assert said["ok"] is not fatal, said
    if fatal:
        assert all(word in said["message"] + said["hint"] for word in words), said
    else:
        volume = daemon.json("status")["volumes"][0]
        assert volume["remote_ok"] is False
        assert "refused" in volume["remote_error"]
