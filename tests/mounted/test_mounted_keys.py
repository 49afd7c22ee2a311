"""Keys in the remote that cannot be files of a mounted volume: they are refused, and harm neither the mount nor anything else."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests_mounted_volume import server_pid
from tests_node_daemon import Daemon, save

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_keys")]
CONTENT = b"m" * 100
BAD = {
    "long": ["long/checkpoint-1/" + "n" * 256],
    "long-directory": ["long-directory/" + "n" * 256 + "/checkpoint-1/model.bin"],
    "deep": ["deep/checkpoint-1/" + "d/" * 2100 + "model.bin"],
    "up": ["up/checkpoint-1/../../../evil.bin"],
    "nul": ["nul/checkpoint-1/model%00.bin"],
    "both": ["both/checkpoint-1/a", "both/checkpoint-1/a/b"],
    ".ckptd-x": [".ckptd-x/checkpoint-1/model.bin"],
    ".ckptd-open": [".ckptd-open/checkpoint-1/model.bin"],
    "inside": ["inside/.ckptd-0123456789ab/checkpoint-1/model.bin"],
    "last": ["last/checkpoint-1/.ckptd-x"],
}
"""Keys of one manifest, by the run that it says it is of."""


class Remote:
    """One in which somebody has committed run-1@1, and who writes into it what no daemon would."""

    def __init__(self, at: Path) -> None:
        self.at = at
        (found,) = self.at.glob(".ckptd/manifests/run-1/1/*.json")
        self._name, self._good = found.name, json.loads(found.read_text())

    def plant(self, run: str, step: int, keys: list[str]) -> None:
        manifest: dict[str, Any] = self._good | {"run": run, "step": step, "root": f"{run}/checkpoint-{step}"}
        del manifest["directories"]  # as in manifests of before there were any
        (model,) = (file for file in self._good["files"] if file["key"].endswith("model.bin"))
        manifest["files"] = [model | {"key": key} for key in keys]
        save(self.at / ".ckptd/manifests" / run / str(step), {self._name: json.dumps(manifest).encode()})


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("first")
    ram = Path(f"/dev/shm/ckptd-test-{os.getpid()}-keys")
    first = Daemon(home / "node", ram, front="watch")
    try:
        first.start()
        save(first.volume / "run-1/checkpoint-1", {"model.bin": CONTENT, "DONE": b""})
        first.committed("run-1", 1)
    finally:
        first.end()
        shutil.rmtree(ram)
    return first.remote


@pytest.fixture
def remote(committed: Path, tmp_path: Path) -> Remote:
    """The one that `new_mounted` gives to its daemons."""
    return Remote(shutil.copytree(committed, tmp_path / "remote"))


def is_well(daemon: Daemon, *others: str) -> None:
    """The mount is served, shows what is good, and fetches it; nobody fell over."""
    daemon.until((daemon.volume / "run-1/checkpoint-1/model.bin").exists, "the good one is shown")
    assert (daemon.volume / "run-1/checkpoint-1/model.bin").read_bytes() == CONTENT
    assert sorted(os.listdir(daemon.volume)) == sorted(["run-1", *others])
    assert "Traceback" not in daemon.log


def test_keys_that_no_file_can_have_are_refused_and_harm_nothing(
    remote: Remote, new_mounted: Callable[..., Daemon]
) -> None:
    for run, keys in BAD.items():
        remote.plant(run, 1, keys)
    daemon = new_mounted()
    daemon.start()
    is_well(daemon)
    daemon.ctl("ls")
    refused = [event["fields"]["run"] for event in daemon.json("events") if event["event"] == "manifest.refused"]
    assert sorted(refused) == sorted(BAD)
    behind = daemon.ram / "volumes/ckpt"
    assert sorted(os.listdir(behind)) == [".ckptd-open", "run-1"]
    assert os.listdir(behind / ".ckptd-open") == []
    assert not list(daemon.home.rglob("evil.bin"))
    os.kill(server_pid(daemon), signal.SIGKILL)
    is_well(daemon)
    daemon.crash()
    daemon.start()  # a new mount of the same tmpfs, whose private directory is emptied
    is_well(daemon)


@pytest.mark.parametrize("first", ["file", "directory"])
def test_a_key_that_is_a_file_to_one_checkpoint_and_a_directory_to_another(
    remote: Remote, new_mounted: Callable[..., Daemon], first: str
) -> None:
    """Each manifest is possible, both are not: whichever came first is shown, and the other one is refused by name."""
    keys = {"file": "run-2/checkpoint-1/a", "directory": "run-2/checkpoint-1/a/b"}
    other = "directory" if first == "file" else "file"
    remote.plant("run-2", 1, [keys[first]])
    daemon = new_mounted()
    daemon.start()
    shown = daemon.volume / keys[first]
    daemon.until(shown.exists, "it is shown")
    remote.plant("run-2", 2, [keys[other]])
    daemon.ctl("ls")
    daemon.until(lambda: daemon.checkpoint("run-2", 2), "the other is known")
    assert shown.stat().st_size == len(CONTENT)
    assert shown.is_file()
    is_well(daemon, "run-2")
    failed = daemon.ctl("prefetch", "run-2@2", check=None)
    assert failed.returncode != 0
    assert "Traceback" not in failed.stdout + failed.stderr + daemon.log
    is_well(daemon, "run-2")


def test_a_file_of_a_checkpoint_whose_object_is_gone_is_an_error_and_nobody_hangs(
    remote: Remote, new_mounted: Callable[..., Daemon]
) -> None:
    remote.plant("run-2", 1, ["run-2/checkpoint-1/nowhere.bin"])
    daemon = new_mounted()
    daemon.start()
    path: Path = daemon.volume / "run-2/checkpoint-1/nowhere.bin"
    daemon.until(path.exists, "it is shown")
    for _ in range(2):
        with pytest.raises(OSError, match=r"Errno (5|2)\b"):
            path.read_bytes()
    assert "Traceback" not in daemon.log
    assert (daemon.volume / "run-1/checkpoint-1/model.bin").read_bytes() == CONTENT
