"""Where a volume cannot be mounted: `mount` says why, `auto` watches and says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_node_daemon import Daemon, clear_mounts, is_mounted, save

from ckptd.fronts.mount import system

pytestmark = pytest.mark.mount


def refused(daemon: Daemon) -> str:
    _, said = daemon.launch()
    assert said["ok"] is False, said
    assert daemon.process is not None
    assert daemon.process.wait(20) == said["exit_code"] == 2
    assert said["hint"]
    assert "Traceback" not in daemon.log
    return str(said["message"])


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    at = tmp_path / "tmpfs"
    at.mkdir()
    system.mount(b"test", os.fsencode(at), b"tmpfs", 0, b"size=1m")
    yield at
    clear_mounts(at)


def test_a_directory_that_is_not_empty(new_mounted: Callable[..., Daemon], tmp_path: Path) -> None:
    save(tmp_path / "full", {"mine": b"x"})
    assert f"{tmp_path}/full is not empty" in refused(new_mounted(volume=tmp_path / "full"))
    assert (tmp_path / "full/mine").read_bytes() == b"x"


def test_a_file(new_mounted: Callable[..., Daemon], tmp_path: Path) -> None:
    save(tmp_path, {"file": b"x"})
    assert f"{tmp_path}/file is not a directory" in refused(new_mounted(volume=tmp_path / "file"))


def test_a_symbolic_link(new_mounted: Callable[..., Daemon], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert f"{tmp_path}/link is a symbolic link" in refused(new_mounted(volume=tmp_path / "link"))


def test_a_mount(new_mounted: Callable[..., Daemon], tmpfs: Path) -> None:
    assert f"{tmpfs} is a mount already (tmpfs)" in refused(new_mounted(volume=tmpfs))


def test_a_directory_on_a_read_only_file_system(new_mounted: Callable[..., Daemon], tmpfs: Path) -> None:
    system.mount(b"test", os.fsencode(tmpfs), b"tmpfs", 1 | 32, b"")  # MS_RDONLY, MS_REMOUNT
    assert "is on a read-only file system" in refused(new_mounted(volume=tmpfs / "below"))


def test_inside_another_volume(new_mounted: Callable[..., Daemon]) -> None:
    one = new_mounted()
    one.start()
    assert "lies inside a mount of ckptd" in refused(new_mounted(volume=one.volume / "below"))


def test_auto_watches_what_it_cannot_mount_and_says_why(new_mounted: Callable[..., Daemon], tmp_path: Path) -> None:
    """As a node whose volume was a link into the RAM tier before."""
    daemon = new_mounted(front="watch")
    daemon.start()
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"x" * 1000})
    daemon.committed("run-1", 1)
    daemon.end()
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace('front = "watch"', 'front = "auto"'))
    daemon.start()
    volume = daemon.json("status")["volumes"][0]
    assert volume["front"] == "watch"
    assert "is a symbolic link" in volume["front_reason"]
    assert (daemon.volume / "run-1/checkpoint-1/model.bin").read_bytes() == b"x" * 1000
    assert not is_mounted(daemon.volume)


def _without_rights(daemon: Daemon, *wrapper: str) -> dict[str, object]:
    daemon.prefix = list(wrapper)
    _, said = daemon.launch()
    return said


def test_without_the_right_to_mount(new_mounted: Callable[..., Daemon]) -> None:
    wrapper = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    said = _without_rights(new_mounted(), *wrapper)
    assert "mounting and passthrough need root (CAP_SYS_ADMIN)" in str(said["message"])
    daemon = new_mounted(front="auto")
    assert _without_rights(daemon, *wrapper)["ok"] is True
    volume = daemon.json("status")["volumes"][0]
    assert (volume["front"], volume["passthrough"]) == ("watch", False)
    assert "CAP_SYS_ADMIN" in volume["front_reason"]
    assert "not mounted: mounting and passthrough need root" in daemon.ctl("status").stdout


def test_without_dev_fuse(new_mounted: Callable[..., Daemon]) -> None:
    hidden = ("unshare", "-m", "sh", "-c", 'mount --bind /dev/null /dev/fuse && exec "$@"', "sh")
    said = _without_rights(new_mounted(), *hidden)
    assert said["ok"] is False
    assert "/dev/fuse" in str(said["message"])


def test_doctor_says_which_front_it_would_be(new_mounted: Callable[..., Daemon], tmp_path: Path) -> None:
    save(tmp_path / "full", {"mine": b"x"})
    words = [sys.executable, "-I", "-m", "ckptd", "doctor", "--json"]
    good = new_mounted()
    found = subprocess.run([*words, "--config", str(good.config)], capture_output=True, text=True, check=False)
    front = next(one for one in json.loads(found.stdout) if one["check"] == "front of ckpt")
    assert front["state"] == "ok"
    assert front["detail"].startswith("mount")
    bad = new_mounted(volume=tmp_path / "full")
    found = subprocess.run([*words, "--config", str(bad.config)], capture_output=True, text=True, check=False)
    front = next(one for one in json.loads(found.stdout) if one["check"] == "front of ckpt")
    assert front["state"] == "failed"
    assert "is not empty" in front["detail"]


def test_a_mount_whose_server_ends_at_every_start(new_mounted: Callable[..., Daemon], tmp_path: Path) -> None:
    """The start fails, and says why, instead of waiting for calls that nobody answers."""
    daemon = new_mounted()
    broken = "import ckptd.supervisor.mounts as m; m.COMMAND = ('/bin/false',); from ckptd.__main__ import main; main()"
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nshift 3\nexec {sys.executable} -I -c "{broken}" "$@"\n')
    program.chmod(0o755)
    daemon.python = str(program)
    _, said = daemon.launch()
    assert said["ok"] is False
    assert "server ends as soon as it starts" in said["message"]
    assert daemon.process is not None
    assert daemon.process.wait(20) == said["exit_code"] != 0
    assert not is_mounted(daemon.volume)
