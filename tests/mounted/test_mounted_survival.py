"""A mounted volume while its processes die, and how it ends."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_mounted_volume import digest, server_pid
from tests_node_daemon import MIB, Daemon, clear_mounts, is_mounted, save

pytestmark = pytest.mark.mount


def test_a_save_is_hot_at_once_and_durable_soon(mounted: Daemon) -> None:
    save(mounted.volume / "run-1/checkpoint-1", {"model.bin": os.urandom(5 * MIB), "config.json": b"{}"})
    mounted.committed("run-1", 1)
    assert digest(mounted.remote / "run-1/checkpoint-1/model.bin") == digest(
        mounted.volume / "run-1/checkpoint-1/model.bin"
    )
    status = mounted.json("status")
    assert (status["volumes"][0]["front"], status["volumes"][0]["passthrough"]) == ("mount", True)
    assert status["tiers"][0]["huge_pages"] is True


def test_demoted_files_are_files_and_can_be_written(new_mounted: Callable[..., Daemon]) -> None:
    daemon = new_mounted(policy="keep_hot = 1\nkeep_nvme = 5")
    daemon.start()
    for step in (1, 2):
        save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": os.urandom(2 * MIB)})
        daemon.committed("run-1", step)
    path = daemon.volume / "run-1/checkpoint-1/model.bin"
    before = path.read_bytes()
    daemon.until(lambda: (daemon.checkpoint("run-1", 1) or {})["tiers"] == ["nvme"], "the older one is demoted")
    assert not path.is_symlink()
    assert path.read_bytes() == before
    with path.open("r+b") as file:
        file.write(b"changed")
    daemon.until(lambda: (daemon.remote / "run-1/checkpoint-1/model.bin").read_bytes()[:7] == b"changed", "sent anew")


def test_jobs_notice_nothing_while_worker_and_server_are_killed(mounted: Daemon) -> None:
    """Two writers save, rename, read back; every 0.2 to 0.6 s the server of the mount dies, and now and then the worker."""
    ends = time.monotonic() + float(os.environ.get("CKPTD_TEST_STORM_S", "8"))
    trouble: list[str] = []
    written: dict[str, bytes] = {}

    def job(name: str) -> None:
        generator, step = random.Random(name), 0
        try:
            while time.monotonic() < ends:
                step += 1
                temporary = mounted.volume / name / f"tmp-{step}"
                temporary.mkdir(parents=True)
                content = generator.randbytes(generator.randrange(1, 400_000))
                with (temporary / "model.bin").open("wb") as file:
                    for at in range(0, len(content), 50_000):
                        file.write(content[at : at + 50_000])
                    os.fsync(file.fileno())
                temporary.rename(mounted.volume / name / f"checkpoint-{step}")
                path = mounted.volume / name / f"checkpoint-{step}/model.bin"
                if path.read_bytes() != content:
                    trouble.append(f"{path}: other bytes")
                written[f"{name}/checkpoint-{step}/model.bin"] = content
        except OSError as error:
            trouble.append(f"{name} step {step}: {error!r}")

    jobs = [threading.Thread(target=job, args=(name,)) for name in ("run-a", "run-b")]
    for thread in jobs:
        thread.start()
    kills = 0
    while time.monotonic() < ends:
        time.sleep(random.uniform(0.2, 0.6))
        with contextlib.suppress(StopIteration, FileNotFoundError, ProcessLookupError):
            os.kill(server_pid(mounted), signal.SIGKILL)
            kills += 1
        if kills % 8 == 4:
            with contextlib.suppress(ProcessLookupError):
                os.kill(_worker(mounted), signal.SIGKILL)
                kills += 1
    for thread in jobs:
        thread.join(60)
        assert not thread.is_alive()
    assert trouble == []
    assert kills >= 5
    mounted.ctl("flush", timeout=120)
    for path, content in written.items():
        assert (mounted.remote / path).read_bytes() == content, path


def _worker(daemon: Daemon) -> int:
    """By /proc: the worker itself may just be on its way up, and not answer."""
    assert daemon.process is not None
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    return next((int(pid) for pid in children if b"ckptd.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()), 1 << 30)


def test_down_unmounts_and_gives_the_memory_back(mounted: Daemon) -> None:
    save(mounted.volume / "run-1/checkpoint-1", {"model.bin": os.urandom(MIB)})
    mounted.ctl("down")
    mounted.end()
    assert not is_mounted(mounted.volume)
    assert not is_mounted(mounted.ram)
    assert os.listdir(mounted.volume) == []
    mounted.start()
    mounted.until((mounted.volume / "run-1/checkpoint-1/model.bin").exists, "it is shown as cold")
    assert (mounted.volume / "run-1/checkpoint-1/model.bin").read_bytes() == (
        mounted.remote / "run-1/checkpoint-1/model.bin"
    ).read_bytes()


def test_what_is_not_durable_survives_down_in_the_tier(mounted: Daemon) -> None:
    mounted.remote.rename(mounted.home / "away")
    content = os.urandom(MIB)
    save(mounted.volume / "run-1/checkpoint-1", {"model.bin": content})
    mounted.ctl("down", "--no-flush")
    mounted.end()
    assert not is_mounted(mounted.volume)
    assert is_mounted(mounted.ram), "the only copy is in it"
    (mounted.home / "away").rename(mounted.remote)
    mounted.start()
    assert (mounted.volume / "run-1/checkpoint-1/model.bin").read_bytes() == content
    mounted.committed("run-1", 1)


def test_down_names_who_holds_the_volume_and_goes_on(mounted: Daemon) -> None:
    save(mounted.volume / "run-1", {"log": b"x"})
    with subprocess.Popen(["tail", "-f", str(mounted.volume / "run-1/log")], stdout=subprocess.DEVNULL) as reader:
        try:
            mounted.until(lambda: os.listdir(f"/proc/{reader.pid}/fd").__len__() > 3, "it has opened it")
            said = mounted.ctl("down", check=None)
            assert said.returncode != 0
            assert f"tail (pid {reader.pid}): {mounted.volume}/run-1/log" in said.stderr
            assert mounted.json("status")["volumes"][0]["front"] == "mount"
            mounted.ctl("down", "--force")
            assert not is_mounted(mounted.volume)
        finally:
            reader.kill()


def test_a_stale_mount_is_replaced(mounted: Daemon) -> None:
    save(mounted.volume / "run-1/checkpoint-1", {"model.bin": os.urandom(MIB)})
    mounted.committed("run-1", 1)
    mounted.crash()
    mounted.until(lambda: _is_stale(mounted.volume), "nobody serves it")
    mounted.start()
    assert (mounted.volume / "run-1/checkpoint-1/model.bin").stat().st_size == MIB
    assert "mount.stale" in mounted.log


def _is_stale(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return True
    return False


def test_the_server_of_a_mount_that_cannot_be_served_does_not_hang_the_end(mounted: Daemon) -> None:
    """Stopped, not dead: an unmount that waited for it would never return."""
    os.kill(server_pid(mounted), signal.SIGSTOP)
    assert mounted.terminate() in {0, 1}
    assert not is_mounted(mounted.volume)
    clear_mounts(mounted.ram)
