"""The main job: saved at memory speed, durable in the background, hot again elsewhere."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests_node_daemon import MIB, Daemon, save


def test_a_saved_checkpoint_becomes_durable_and_plain_in_the_remote(daemon: Daemon) -> None:
    content = os.urandom(3 * MIB)
    save(daemon.volume / "run-42" / "checkpoint-100", {"model.bin": content, "trainer_state.json": b"{}"})
    found = daemon.committed("run-42", 100)
    assert found["durable_bytes"] == found["bytes"] == len(content) + 2
    assert (daemon.remote / "run-42/checkpoint-100/model.bin").read_bytes() == content
    assert (daemon.remote / f".ckptd/manifests/run-42/100/{daemon.node}.json").exists()
    assert daemon.ctl("latest", "run-42").stdout.strip() == str(daemon.volume / "run-42/checkpoint-100")


def test_another_node_prefetches_what_this_one_committed(daemon: Daemon, new_daemon: Callable[..., Daemon]) -> None:
    content = os.urandom(5 * MIB)
    save(daemon.volume / "run-42" / "checkpoint-100", {"model.bin": content, "trainer_state.json": b"{}"})
    os.chmod(daemon.volume / "run-42/checkpoint-100/model.bin", 0o640)
    daemon.committed("run-42", 100)
    other = new_daemon(remote=daemon.remote_url)
    other.start()
    done = other.json("prefetch", "run-42")
    assert done["state"] == "done"
    path = Path(other.ctl("latest", "run-42").stdout.strip())
    assert (path / "model.bin").read_bytes() == content
    assert (path / "model.bin").stat().st_mode & 0o777 == 0o640


def test_a_killed_worker_is_replaced_and_goes_on(daemon: Daemon) -> None:
    save(daemon.volume / "run-1" / "step-1", {"a.bin": b"1" * MIB, "DONE": b""})
    daemon.committed("run-1", 1)
    os.kill(daemon.worker_pid(), signal.SIGKILL)
    save(daemon.volume / "run-1" / "step-2", {"a.bin": b"2" * MIB, "DONE": b""})
    daemon.committed("run-1", 2)
    assert daemon.json("status")["restarts"] == 1
