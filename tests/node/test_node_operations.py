"""Long work that users ask for: done, refused with the right exit code, cancelled, and begun again after a crash."""

import json
import os
import signal
import time
from collections.abc import Callable

from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import away, flip, manifest_path, objects

SLOW = 'bandwidth = "3MiB"\npart_size = "5MiB"'


def saved(daemon: Daemon, step: int = 1, size: int = 2 * MIB) -> bytes:
    content = os.urandom(size)
    save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": content, "sub/DONE": b"", "DONE": b""})
    daemon.committed("run-1", step)
    return content


def test_status_says_what_the_contract_says(daemon: Daemon) -> None:
    saved(daemon)
    status = daemon.json("status")
    assert {
        "version",
        "node",
        "pid",
        "uptime_s",
        "restarts",
        "volumes",
        "tiers",
        "exposure",
        "transfers",
        "operations",
    } <= status.keys()
    volume, ram = status["volumes"][0], status["tiers"][0]
    assert {"name", "path", "remote", "front", "passthrough", "remote_ok", "runs", "checkpoints"} <= volume.keys()
    assert (volume["path"], volume["runs"], volume["checkpoints"]) == (str(daemon.volume), 1, 1)
    assert {"name", "path", "budget_bytes", "used_bytes", "pinned_bytes", "huge_pages"} <= ram.keys()
    assert (ram["name"], ram["used_bytes"], ram["budget_bytes"]) == ("ram", 2 * MIB, 512 * MIB)
    assert status["exposure"] == {"bytes": 0, "files": 0, "oldest_s": None}
    assert {"upload_bytes_per_s", "download_bytes_per_s", "queued_bytes"} <= status["transfers"].keys()
    assert status["operations"] == []
    listed = daemon.json("ls", "run-1")[0]
    assert listed.keys() >= {
        "run", "step", "state", "framework", "files", "bytes", "hot_bytes", "durable_bytes", "tiers", "pinned", "path",
        "written_at", "committed_at",
    }  # fmt: skip
    assert (listed["files"], listed["bytes"], listed["path"]) == (3, 2 * MIB, str(daemon.volume / "run-1/checkpoint-1"))


def test_flush_returns_when_all_is_durable(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy="", transfer=SLOW)
    daemon.start()
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": os.urandom(6 * MIB), "DONE": b""})
    save(daemon.volume / "run-2/checkpoint-1", {"model.bin": b"x", "DONE": b""})
    assert daemon.json("flush", "run-1")["state"] == "done"
    assert daemon.checkpoint("run-1", 1)["state"] == "committed"
    daemon.ctl("flush")
    assert daemon.checkpoint("run-2", 1)["state"] == "committed"
    daemon.ctl("flush", "run-3", check=4)
    daemon.ctl("flush", "run-1@7", check=4)


def test_verify_replaces_a_bad_copy_from_the_remote(daemon: Daemon) -> None:
    content = saved(daemon)
    path = daemon.volume / "run-1/checkpoint-1/model.bin"
    assert daemon.json("verify", "run-1@1")["state"] == "done"
    # Through another name and with the old times: as memory that flips, nothing tells the daemon of it.
    flip(path.resolve())
    time.sleep(0.5)
    refused = daemon.ctl("verify", "run-1@1", check=6)
    assert "model.bin" in refused.stderr
    assert "replaced" in refused.stderr
    assert path.read_bytes() == content
    assert len(list((daemon.ram / "quarantine").iterdir())) == 1
    daemon.ctl("verify", "run-1@1", "--remote")
    flip(daemon.remote / "run-1/checkpoint-1/model.bin")
    daemon.ctl("verify", "run-1@1")
    refused = daemon.ctl("verify", "run-1@1", "--remote", check=6)
    assert "in the remote" in refused.stderr
    assert {"copy.quarantined", "remote.bad"} <= {event["event"] for event in daemon.json("events")}


def test_a_bad_object_in_the_remote_is_never_put_in_place(daemon: Daemon) -> None:
    saved(daemon)
    daemon.ctl("evict", "run-1@1")
    flip(daemon.remote / "run-1/checkpoint-1/model.bin")
    refused = daemon.ctl("prefetch", "run-1@1", check=6)
    assert "model.bin" in refused.stderr
    assert not (daemon.volume / "run-1/checkpoint-1/model.bin").exists()
    daemon.ctl("restore", "run-1@1", str(daemon.home / "out"), check=6)
    assert not (daemon.home / "out/model.bin").exists()


def test_restore_copies_hot_and_cold_checkpoints_anywhere(daemon: Daemon) -> None:
    content = saved(daemon)
    path = daemon.volume / "run-1/checkpoint-1/model.bin"
    os.chmod(path, 0o600)
    out = daemon.home / "out"
    assert daemon.json("restore", "run-1", str(out))["state"] == "done"
    assert objects(out) == {"model.bin": content, "sub/DONE": b"", "DONE": b""}
    assert (out / "model.bin").stat().st_mode & 0o777 == 0o600
    daemon.ctl("restore", "run-1", str(out), check=2)
    daemon.ctl("evict", "run-1@1")
    cold = daemon.home / "cold"
    cold.mkdir()
    daemon.ctl("restore", "run-1@1", str(cold))
    assert objects(cold) == {"model.bin": content, "sub/DONE": b"", "DONE": b""}
    assert not path.exists()
    daemon.ctl("restore", "run-9", str(daemon.home / "none"), check=4)


def test_rm_takes_what_it_is_told_to(daemon: Daemon) -> None:
    content = saved(daemon, 1)
    saved(daemon, 2)
    daemon.ctl("rm", "run-1@1", check=2)
    daemon.ctl("rm", "run-1@1", "--yes")
    assert not (daemon.volume / "run-1/checkpoint-1").exists()
    assert daemon.checkpoint("run-1", 1)["state"] == "committed"
    daemon.ctl("prefetch", "run-1@1")
    assert (daemon.volume / "run-1/checkpoint-1/model.bin").read_bytes() == content
    daemon.ctl("rm", "run-1@1", "--remote", "--yes")
    assert not (daemon.volume / "run-1/checkpoint-1").exists()
    assert {path.split("/")[1] for path in objects(daemon.remote)} == {"checkpoint-2"}
    assert not manifest_path(daemon, "run-1", 1).exists()
    assert daemon.checkpoint("run-1", 1) is None
    daemon.ctl("rm", "run-1@1", "--yes", check=4)
    daemon.ctl("rm", "run-1", "--remote", "--yes")
    assert objects(daemon.remote) == {}
    daemon.ctl("ls", "run-1", check=4)


def test_a_running_prefetch_can_be_cancelled(new_daemon: Callable[..., Daemon], daemon: Daemon) -> None:
    content = saved(daemon, size=16 * MIB)
    slow = new_daemon(remote=daemon.remote_url, transfer=SLOW)
    slow.start()
    begun = json.loads(slow.ctl("prefetch", "run-1", "--no-wait", "--json").stdout)
    assert begun["state"] == "running"
    slow.until(lambda: slow.get(f"/v1/operations/{begun['id']}")["bytes_done"] > 0, "it moves")
    assert [one["id"] for one in slow.json("status")["operations"]] == [begun["id"]]
    assert slow.json("cancel", str(begun["id"]))["state"] == "cancelled"
    assert not (slow.volume / "run-1/checkpoint-1/model.bin").exists()
    assert slow.json("status")["operations"] == []
    assert slow.json("ops")[-1]["state"] == "cancelled"
    slow.until(lambda: slow.get("/v1/status")["transfers"]["download_bytes_per_s"] == 0, "nothing moves", timeout=10)
    short = slow.ctl("prefetch", "run-1", "--timeout", "0.5s", "--json", check=5)
    assert json.loads(short.stdout)["state"] == "timeout"
    slow.until(lambda: slow.json("ops")[-1]["state"] == "done", "it went on in the daemon", timeout=15)
    assert (slow.volume / "run-1/checkpoint-1/model.bin").read_bytes() == content
    slow.ctl("cancel", "99", check=4)


def test_an_operation_goes_on_after_the_worker_was_killed(new_daemon: Callable[..., Daemon], daemon: Daemon) -> None:
    content = saved(daemon, size=16 * MIB)
    slow = new_daemon(remote=daemon.remote_url, transfer=SLOW)
    slow.start()
    begun = json.loads(slow.ctl("prefetch", "run-1", "--no-wait", "--json").stdout)
    slow.until(lambda: slow.get(f"/v1/operations/{begun['id']}")["bytes_done"] > 11 * MIB, "half of it")
    killed = time.monotonic()
    os.kill(slow.worker_pid(), signal.SIGKILL)
    slow.until(lambda: slow.get(f"/v1/operations/{begun['id']}")["state"] == "done", "done after all")
    assert slow.json("status")["restarts"] == 1
    assert (slow.volume / "run-1/checkpoint-1/model.bin").read_bytes() == content
    assert time.monotonic() - killed < 12, "finished parts are not fetched again"


def test_stopping_flushes_or_says_what_is_exposed(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(extra='shutdown_timeout = "1s"', transfer=SLOW)
    daemon.start()
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"1" * 3 * MIB, "DONE": b""})
    assert daemon.terminate() in (0, 5)
    daemon = new_daemon(transfer='bandwidth = "3MiB"')
    daemon.start()
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"1" * 3 * MIB, "DONE": b""})
    assert daemon.terminate() == 0
    assert manifest_path(daemon, "run-1", 1).exists()
    daemon.start()
    with away(daemon):
        save(daemon.volume / "run-1/checkpoint-2", {"model.bin": b"2", "DONE": b""})
        daemon.state_is("run-1", 2, "complete")
        refused = daemon.ctl("down", "--timeout", "1s", check=5)
        assert "exposed" in refused.stderr
        daemon.ctl("ls", "run-1")
        daemon.ctl("down", "--no-flush")
        daemon.ctl("status", check=3)
        assert daemon.process is not None
        daemon.process.wait(10)
    daemon.start()
    daemon.committed("run-1", 2)
    daemon.ctl("down")
    daemon.ctl("status", check=3)
    assert daemon.process.wait(10) == 0
