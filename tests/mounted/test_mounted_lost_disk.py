"""The NVMe tier's disk is taken away under a daemon: it is told, nothing hangs, what is durable comes from the remote."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable

import pytest
from tests_node_daemon import MIB, Daemon, save

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_lost_disk")]


def test_a_tier_whose_disk_is_gone(new_mounted: Callable[..., Daemon]) -> None:
    daemon = new_mounted(policy="keep_hot = 1\nkeep_nvme = 5", nvme_budget="48MiB")
    nvme = daemon.home / "nvme"
    nvme.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "disk", nvme], check=True)
    path = daemon.volume / "run-1/checkpoint-1/model.bin"
    try:
        daemon.start()
        contents = {step: os.urandom(2 * MIB) for step in (1, 2)}
        for step, content in contents.items():
            save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": content})
            daemon.committed("run-1", step)
        daemon.until(lambda: tiers(daemon, 1) == ["nvme"], "it was demoted")
        assert path.read_bytes() == contents[1]
    finally:
        subprocess.run(["umount", "-l", nvme], check=True)
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the errno is what counts
        path.read_bytes()
    assert refused.value.errno == errno.EIO  # not ENOENT: it is not that there is no checkpoint
    assert (daemon.volume / "run-1/checkpoint-2/model.bin").read_bytes() == contents[2]
    told = daemon.until(lambda: [one for one in daemon.json("events") if one["event"] == "front.lost"], "it is told")
    assert "the directory of demoted files was deleted" in told[0]["message"]
    assert "--no-flush" in daemon.log
    daemon.ctl("down", "--no-flush")
    assert daemon.process is not None
    daemon.process.wait()
    daemon.start()
    daemon.until(path.exists, "it is in sight")
    assert path.read_bytes() == contents[1]
    save(daemon.volume / "run-1/checkpoint-3", {"model.bin": b"3" * MIB})
    daemon.committed("run-1", 3)


def tiers(daemon: Daemon, step: int) -> list[str]:
    found = daemon.checkpoint("run-1", step)
    return [] if found is None else list(found["tiers"])
