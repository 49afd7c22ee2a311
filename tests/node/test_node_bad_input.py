"""Input that cannot be served: told at `up`, naming the thing and the fix, with the right exit code, and nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_node_daemon import Daemon, save

NewDaemon = Callable[..., Daemon]


def refused(daemon: Daemon, code: int, *words: str) -> str:
    """`up` says so on stderr, and leaves nothing running behind."""
    done = daemon.ctl("up", "--config", str(daemon.config), check=code)
    for word in words:
        assert word in done.stderr, f"{word!r} not in: {done.stderr}"
    assert done.stdout == ""
    assert not (daemon.home / "s").exists()
    daemon.ctl("status", check=3)
    return done.stderr


def edited(daemon: Daemon, old: str, new: str) -> int:
    """Changes the config file; the number of the line where it was changed."""
    text = daemon.config.read_text()
    assert text.count(old) == 1
    daemon.config.write_text(text.replace(old, new))
    return text[: text.index(old)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[transfer]", "[transfer]\nparalel = 3", ("transfer.paralel: no such key", "did you mean parallel")),
        ('budget = "512MiB"', "budget = [1]", ("tiers.ram.budget",)),
        ('budget = "512MiB"', 'budget = "-1GiB"', ("tiers.ram.budget", "negative")),
    ],
    ids=["unknown key", "wrong type", "negative budget"],
)
def test_a_mistake_in_the_config_names_file_line_and_key(
    new_daemon: NewDaemon, old: str, new: str, words: tuple[str, ...]
) -> None:
    daemon = new_daemon()
    line = edited(daemon, old, new) + new.count("\n")
    refused(daemon, 2, f"{daemon.config}:{line}: ", *words)


def test_a_budget_above_what_the_machine_has_is_refused(new_daemon: NewDaemon) -> None:
    refused(new_daemon(ram_budget="900TiB"), 2, "tiers.ram.budget", "900TiB is more than", "at most")
    refused(new_daemon(nvme_budget="900TiB"), 2, "tiers.nvme.budget", "900TiB is more than", "at most")


def test_a_tier_that_cannot_be_written_is_refused(new_daemon: NewDaemon) -> None:
    daemon = new_daemon()
    edited(daemon, f'path = "{daemon.home}/nvme"', 'path = "/proc/ckptd"')
    refused(daemon, 2, "tiers.nvme.path", "/proc/ckptd", "choose a directory")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", place], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip("only root can mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def filled_up(disk: Path) -> Path:
    """Leaves no byte free; removing the file that is returned frees them."""
    filler = disk / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(512))
    return filler


def test_a_tier_on_a_read_only_file_system_is_refused(new_daemon: NewDaemon, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    daemon = new_daemon()
    edited(daemon, f'path = "{daemon.home}/nvme"', f'path = "{small_disk}/tier"')
    refused(daemon, 2, "tiers.nvme.path", str(small_disk), "choose a directory")


def test_a_tier_inside_a_volume_is_refused(new_daemon: NewDaemon) -> None:
    daemon = new_daemon()
    daemon.volume.mkdir()
    edited(daemon, f'path = "{daemon.home}/nvme"', f'path = "{daemon.volume}/nvme"')
    refused(daemon, 2, "tiers.nvme.path", str(daemon.volume), "ckpt")
    assert list(daemon.volume.iterdir()) == []


@pytest.mark.parametrize(
    ("remote", "words"),
    [
        ("gopher://host/x", ("gopher", "s3", "file")),
        ("file://host/x", ("file://host/x",)),
        ("file://", ("file://",)),
        ("s3://", ("s3://",)),
    ],
)
def test_a_remote_that_names_nothing_we_speak_is_refused(
    new_daemon: NewDaemon, remote: str, words: tuple[str, ...]
) -> None:
    daemon = new_daemon(remote=remote)
    done = daemon.ctl("up", "--config", str(daemon.config), check=None)
    assert done.returncode in (1, 2), done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "bug" not in done.stderr
    daemon.ctl("status", check=3)


def test_a_directory_remote_whose_parent_is_missing_is_refused_at_up(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """The directory itself is made; a missing parent is a file system that is not mounted."""
    said = refused(new_daemon(remote=f"file://{tmp_path}/lustre/ckpts"), 1, f"{tmp_path}/lustre")
    assert "mount" in said
    assert not (tmp_path / "lustre").exists()


def test_a_directory_remote_that_is_a_file_is_refused_at_up(new_daemon: NewDaemon, tmp_path: Path) -> None:
    (tmp_path / "remote").write_text("I am a file")
    refused(new_daemon(remote=f"file://{tmp_path}/remote"), 2, f"{tmp_path}/remote is not a directory")
    assert (tmp_path / "remote").read_text() == "I am a file"


def test_volumes_that_overlap_are_refused(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote")
    text = daemon.config.read_text()
    second = '[[volumes]]\nname = "two"\npath = "{}"\nremote = "{}"\n'
    daemon.config.write_text(text + second.format(daemon.volume / "inner", f"file://{tmp_path}/other"))
    refused(daemon, 2, "volumes[1].path", "lies inside the path of volume 'ckpt'", str(daemon.volume))
    daemon.config.write_text(text + second.format(daemon.home / "ckpt2", f"file://{tmp_path}/remote/inner"))
    refused(daemon, 2, "volumes[1].remote", "lies inside the remote of volume 'ckpt'")


def test_a_volume_path_that_is_a_file_is_refused(new_daemon: NewDaemon) -> None:
    daemon = new_daemon()
    daemon.volume.write_text("mine")
    refused(daemon, 2, str(daemon.volume), "not a directory")
    assert daemon.volume.read_text() == "mine"


def test_a_volume_on_no_tiers_file_system_is_refused(new_daemon: NewDaemon, small_disk: Path) -> None:
    daemon = new_daemon(volume=small_disk / "ckpt")
    save(daemon.volume / "run-1", {"a.bin": b"1"})
    refused(daemon, 2, str(daemon.volume), "no tier's file system", "tiers.nvme.path")
    assert (daemon.volume / "run-1" / "a.bin").read_bytes() == b"1"


def test_a_remote_of_a_newer_format_is_refused_and_left_alone(new_daemon: NewDaemon, tmp_path: Path) -> None:
    mark = tmp_path / "remote" / ".ckptd" / "format"
    mark.parent.mkdir(parents=True)
    mark.write_text('{"version": 2}')
    refused(new_daemon(remote=f"file://{tmp_path}/remote"), 1, "format version 2", "up to 1", "upgrade ckptd")
    assert mark.read_text() == '{"version": 2}'
    mark.write_text("what is this?")
    refused(new_daemon(remote=f"file://{tmp_path}/remote"), 1, ".ckptd/format is not readable")


def test_manifests_that_cannot_be_read_are_never_offered_and_harm_no_other(
    daemon: Daemon, new_daemon: NewDaemon
) -> None:
    for step in (1, 2, 3):
        save(daemon.volume / "run-1" / f"step-{step}", {"a.bin": bytes([step]), "DONE": b""})
        daemon.committed("run-1", step)
    manifests = daemon.remote / ".ckptd" / "manifests" / "run-1"
    newer = next((manifests / "3").iterdir())
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"version": 2, "surprise": True}))
    next((manifests / "2").iterdir()).write_bytes(b"\xff\x00 not a manifest")
    (manifests / "9").mkdir()
    (manifests / "9" / "elsewhere.json").write_text("[1, 2]")
    other = new_daemon(remote=daemon.remote_url)
    other.start()
    assert [item["step"] for item in other.json("ls", "run-1")] == [1]
    assert other.json("prefetch", "run-1")["target"] == "run-1"
    assert other.ctl("latest", "run-1").stdout.strip() == str(other.volume / "run-1" / "step-1")
    other.ctl("prefetch", "run-1@3", check=4)
    assert other.log.count("event=manifest.refused") == 3


def test_what_does_not_exist_is_exit_code_4(daemon: Daemon) -> None:
    save(daemon.volume / "run-1" / "step-1", {"a.bin": b"1", "DONE": b""})
    daemon.committed("run-1", 1)
    for arguments in (
        ("ls", "run-2"), ("latest", "run-2"), ("prefetch", "run-2"), ("prefetch", "run-1@2"), ("flush", "run-2"),
        ("pin", "run-1@2"), ("evict", "run-1@2"), ("verify", "run-1@2"), ("restore", "run-1@2", str(daemon.home / "r")),
        ("rm", "run-1@2", "--yes"), ("cancel", "99"), ("--volume", "other", "ls"),
    ):  # fmt: skip
        done = daemon.ctl(*arguments, check=4)
        assert done.stderr.startswith("error: "), (arguments, done.stderr)
    assert not (daemon.home / "r").exists()


def test_a_torn_checkpoint_asked_for_by_step_is_exit_code_6(daemon: Daemon) -> None:
    save(daemon.volume / "run-1" / "step-1", {"a.bin": b"1", "b.bin": b"1", "DONE": b""})
    daemon.committed("run-1", 1)
    save(daemon.volume / "run-1" / "step-2", {"a.bin": b"1"})
    daemon.state_is("run-1", 2, "torn")
    for command in ("prefetch", "verify"):
        said = daemon.ctl(command, "run-1@2", check=6).stderr
        assert "torn" in said
        assert "latest run-1" in said
    daemon.ctl("restore", "run-1@2", str(daemon.home / "r"), check=6)
    assert daemon.ctl("latest", "run-1").stdout.strip().endswith("step-1")


def test_the_socket_of_a_dead_daemon_is_exit_code_3_and_up_replaces_it(new_daemon: NewDaemon) -> None:
    daemon = new_daemon()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(daemon.home / "s"))
    said = daemon.ctl("status", check=3).stderr
    assert "ckptctl up" in said
    daemon.start()
    daemon.ctl("status")


def test_files_that_were_there_before_are_adopted_and_changes_made_while_it_was_down_too(
    new_daemon: NewDaemon, tmp_path: Path
) -> None:
    volume = tmp_path / "ckpt"  # on the file system of the NVMe tier
    for step in (1, 2, 3, 4):
        save(volume / "run-1" / f"step-{step}", {"a.bin": bytes([step]) * 1000, "b.bin": b"b", "DONE": b""})
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", volume=volume)
    daemon.start()
    for step in (1, 2, 3, 4):
        daemon.committed("run-1", step)
    assert daemon.terminate() == 0
    save(volume / "run-1" / "step-2", {"a.bin": b"changed", "DONE": b""})
    (volume / "run-1/step-3").rename(volume / "run-1/step-33")
    save(volume / "run-1" / "step-5", {"a.bin": b"new", "b.bin": b"b", "DONE": b""})
    for name in ("a.bin", "b.bin", "DONE"):
        (volume / "run-1" / "step-4" / name).unlink()
    daemon.start()
    for step in (5, 33):
        daemon.committed("run-1", step)
    remote = tmp_path / "remote" / "run-1"
    daemon.until(lambda: (remote / "step-2" / "a.bin").read_bytes() == b"changed", "the change in the remote")
    daemon.committed("run-1", 2)
    assert (remote / "step-33/a.bin").read_bytes() == bytes([3]) * 1000
    assert daemon.json("verify", "run-1@2", "--remote")["state"] == "done"
    assert daemon.ctl("latest", "run-1").stdout.strip() == str(volume / "run-1/step-5"), "33 is older"
    # What the job deletes stays restorable, as far as it was committed.
    assert daemon.json("prefetch", "run-1@4")["state"] == "done"
    assert (volume / "run-1/step-4/a.bin").read_bytes() == bytes([4]) * 1000


@pytest.mark.parametrize("for_what", ["the lock", "the catalog"])
def test_a_state_directory_without_room_is_told_at_up(new_daemon: NewDaemon, small_disk: Path, for_what: str) -> None:
    daemon = new_daemon()
    if for_what == "the catalog":
        (small_disk / "state").mkdir()
        (small_disk / "state" / "lock").write_text("1\n")
    edited(daemon, f'state_dir = "{daemon.home}/state"', f'state_dir = "{small_disk}/state"')
    filler = filled_up(small_disk)
    said = refused(daemon, 1, "free ", "space", str(small_disk), for_what if for_what == "the catalog" else "")
    assert "report" not in said
    filler.unlink()
    daemon.start()


def test_a_catalog_disk_that_fills_up_delays_but_loses_nothing(
    new_daemon: NewDaemon, small_disk: Path, tmp_path: Path
) -> None:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote")
    edited(daemon, f'state_dir = "{daemon.home}/state"', f'state_dir = "{small_disk}/state"')
    daemon.start()
    save(daemon.volume / "run-1" / "step-1", {"a.bin": b"1", "DONE": b""})
    daemon.committed("run-1", 1)
    filler = filled_up(small_disk)
    worker = daemon.worker_pid()
    for step in (2, 3, 4):
        files = {f"{n}.bin": bytes([step]) * 1000 for n in range(40)}
        save(daemon.volume / "run-1" / f"step-{step}", files | {"DONE": b""})
    daemon.until(lambda: "cannot be written" in daemon.log, "told in the log")
    daemon.ctl("status")
    daemon.ctl("prefetch", "run-1@1", check=None)  # an operation that cannot be recorded must not end the daemon
    filler.unlink()
    for step in (2, 3, 4):
        daemon.committed("run-1", step)
    assert daemon.worker_pid() == worker
    assert daemon.json("verify", "run-1@4", "--remote")["state"] == "done"
