"""Names and kinds of files that jobs may leave in a checkpoint: all of them come back on another node as they were."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_node_daemon import MIB, Daemon, save

STEP = "checkpoint-100"
ODD_NAMES = [
    b"with spaces .bin", b"two\nlines\r.bin", b"invalid-\xff\xfe-utf8.bin", b"%41.bin", b"%.bin", b"%0A.bin", b"-rf",
    b"--help.bin",
    "gew\u00f6hnlich-\u6a21\u578b-\U0001f600.bin".encode(), b"back\\slash.bin", b"quote'\".bin", b"$(touch x).bin",
    b"a=b&c?d#e.bin",
    b"n" * 251 + b".bin", b"tab\tbell\x07.bin", b"x y~z",
]  # fmt: skip


def found(directory: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything below: kind, mode, time and content (or target) by name."""
    top = os.fsencode(directory)
    seen: dict[bytes, tuple[object, ...]] = {}
    for folder, directories, names in os.walk(top):
        for name in [*names, *(d for d in directories if os.path.islink(os.path.join(folder, d)))]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            relative = os.path.relpath(path, top)
            if stat.S_ISLNK(status.st_mode):
                seen[relative] = ("link", os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
                seen[relative] = ("file", stat.S_IMODE(status.st_mode), status.st_mtime_ns, content)
            else:
                seen[relative] = ("other",)
    return seen


def prefetched(daemon: Daemon, new_daemon: Callable[..., Daemon], run: str = "run-1", *arguments: str) -> Path:
    """The newest checkpoint of the run, on another node."""
    other = new_daemon(remote=daemon.remote_url)
    other.start()
    assert other.json("prefetch", run, *arguments)["state"] == "done"
    return Path(other.ctl("latest", run).stdout.strip())


def test_odd_names_come_back_as_they_were(daemon: Daemon, new_daemon: Callable[..., Daemon]) -> None:
    directory = daemon.volume / "run-1" / STEP
    directory.mkdir(parents=True)
    for number, name in enumerate(ODD_NAMES):
        path = os.path.join(os.fsencode(directory), name)
        Path(os.fsdecode(path)).write_bytes(name * (number + 1))
        os.chmod(path, 0o600 + number)
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    (directory / "trainer_state.json").write_text("{}")
    listed = daemon.committed("run-1", 100)
    assert listed["files"] == len(ODD_NAMES) + 1
    before = found(directory)
    assert found(prefetched(daemon, new_daemon)) == before


def said(daemon: Daemon, *arguments: str) -> bytes:
    """What a command prints: paths are bytes, and need not be text."""
    return subprocess.run(
        [sys.executable, "-I", "-m", "ckptctl", *arguments],
        stdout=subprocess.PIPE, timeout=60, env=daemon.environment, check=True,
    ).stdout  # fmt: skip


def committed(daemon: Daemon, run: str) -> None:
    daemon.until(lambda: json.loads(said(daemon, "ls", "--json", "--", run))[0]["state"] == "committed", run)


def test_a_run_with_an_odd_name_can_be_asked_for(daemon: Daemon, new_daemon: Callable[..., Daemon]) -> None:
    run = os.fsdecode("l\u00e4uf ".encode() + b"\xff")
    save(daemon.volume / run / STEP, {"model.bin": b"1" * 1000, "DONE": b""})
    committed(daemon, run)
    for command in (
        ("flush", run),
        ("verify", run),
        ("pin", f"{run}@100"),
        ("ls",),
        ("ops",),
        ("events",),
        ("status",),
    ):
        said(daemon, *command)
    assert said(daemon, "latest", run).strip() == os.fsencode(daemon.volume / run / STEP)
    other = new_daemon(remote=daemon.remote_url)
    other.start()
    assert json.loads(said(other, "prefetch", run, "--json"))["state"] == "done"
    assert found(other.volume / run / STEP) == found(daemon.volume / run / STEP)
    assert json.loads(said(other, "ls", "--json"))[0]["run"] == "l\u00e4uf %FF"


def test_a_run_whose_name_begins_with_a_dash_can_be_asked_for(daemon: Daemon) -> None:
    save(daemon.volume / "-r" / STEP, {"model.bin": b"1" * 1000, "DONE": b""})
    committed(daemon, "-r")
    assert said(daemon, "latest", "--", "-r").strip() == os.fsencode(daemon.volume / "-r" / STEP)


def test_what_a_dead_writer_left_beside_a_finished_checkpoint_holds_nothing_up(daemon: Daemon) -> None:
    directory = daemon.volume / "run-1" / STEP
    save(directory, {".model.bin.x1": b"half", "model.bin": b"whole", "DONE": b""})
    daemon.committed("run-1", 100)
    assert daemon.json("flush", "run-1")["state"] == "done"
    assert (directory / ".model.bin.x1").read_bytes() == b"half"
    assert {path.name for path in (daemon.remote / "run-1" / STEP).iterdir()} == {"model.bin", "DONE"}


@pytest.mark.parametrize("tier", ["ram", "nvme"])
def test_links_empty_and_sparse_files_come_back(daemon: Daemon, new_daemon: Callable[..., Daemon], tier: str) -> None:
    directory = daemon.volume / "run-1" / STEP
    (directory / "sub").mkdir(parents=True)
    (directory / "model.bin").write_bytes(os.urandom(MIB))
    (directory / "sub" / "optimizer.bin").write_bytes(b"2" * 100)
    (directory / "empty.bin").write_bytes(b"")
    os.chmod(directory / "empty.bin", 0o400)
    with (directory / "sparse.bin").open("wb") as sparse:
        sparse.seek(8 * MIB)
        sparse.write(b"end")
    (directory / "relative.bin").symlink_to("model.bin")
    (directory / "sub" / "up.bin").symlink_to("../model.bin")
    (directory / "dangling.bin").symlink_to("/nowhere/at all")
    (directory / "to-directory").symlink_to("sub")
    (directory / "outside").symlink_to("/etc")
    (directory / "DONE").write_bytes(b"")
    daemon.committed("run-1", 100)
    before = found(directory)
    assert len(before) == 10
    # What leads out of the volume is not made again: a remote must not make a job write anywhere on a node.
    before = {name: what for name, what in before.items() if name not in {b"dangling.bin", b"outside"}}
    after = prefetched(daemon, new_daemon, "run-1", "--to", tier)
    if tier == "nvme":  # regular files are links to their objects there
        assert {name for name, _ in found(after).items()} == set(before)
        assert (after / "sparse.bin").read_bytes() == (directory / "sparse.bin").read_bytes()
        assert os.readlink(after / "sub" / "up.bin") == "../model.bin"
    else:
        assert found(after) == before
    assert (after / "sub" / "up.bin").read_bytes() == (directory / "model.bin").read_bytes()


def test_a_fifo_and_a_socket_are_left_alone(daemon: Daemon, new_daemon: Callable[..., Daemon]) -> None:
    directory = daemon.volume / "run-1" / STEP
    directory.mkdir(parents=True)
    os.mkfifo(directory / "pipe")
    os.mknod(directory / "node", stat.S_IFSOCK | 0o600)
    save(directory, {"model.bin": b"1" * 1000, "DONE": b""})
    assert daemon.committed("run-1", 100)["files"] == 2
    assert stat.S_ISFIFO((directory / "pipe").stat().st_mode)
    assert set(found(prefetched(daemon, new_daemon))) == {b"model.bin", b"DONE"}


def test_a_name_that_a_directory_remote_cannot_hold_harms_no_other(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """255 control characters are 765 bytes once they are escaped, more than a file name may have there."""
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", extra='shutdown_timeout = "500ms"')
    daemon.start()
    save(daemon.volume / "run-1" / STEP, {"\n" * 255: b"1", "model.bin": b"2", "DONE": b""})
    save(daemon.volume / "run-1" / "checkpoint-200", {"model.bin": b"2", "DONE": b""})
    daemon.committed("run-1", 200)
    daemon.state_is("run-1", 100, "complete")
    daemon.until(lambda: [e for e in daemon.json("events") if "name is too long" in e["message"]], "told in events")
    assert (daemon.volume / "run-1" / STEP / ("\n" * 255)).read_bytes() == b"1"
