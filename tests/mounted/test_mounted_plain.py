"""What is in a remote and no manifest describes: shown as cold files, fetched when opened, and never ckptd's to change."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests_node_bucket import PART, TRANSFER, Bucket, events, options
from tests_node_daemon import MIB, Daemon, clear_mounts, save

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_plain")]
OLD = 1_700_000_000
RUNS = 20


class Run:
    """One run of the node, which all tests share: `there` is filled before the daemon starts."""

    numbers = itertools.count()

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.name = f"run-{next(self.numbers)}"
        self.folder, self.there = daemon.volume / self.name, daemon.remote / self.name

    def shown(self) -> list[str]:
        self.daemon.ctl("ls")  # looks at once
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def hot(self) -> list[str]:
        tree = self.daemon.ram / "volumes/ckpt" / self.name
        return sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file())


def fill(there: Path, step: int = 1) -> dict[str, bytes]:
    """As `aws s3 cp` does it."""
    files = {
        f"checkpoint-{step}/model.bin": os.urandom(MIB + 7), f"checkpoint-{step}/trainer_state.json": b"{}", "notes.txt": b"n",
    }  # fmt: skip
    save(there, files)
    for name in files:
        os.utime(there / name, (OLD, OLD))
    return files


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("plain")
    ram = Path(f"/dev/shm/ckptd-test-{os.getpid()}-plain")
    daemon = Daemon(home / "node", ram, front="mount", transfer='part_size = "16MiB"')
    for number in range(RUNS):
        fill(daemon.remote / f"run-{number}")
    try:
        daemon.start()
        daemon.until(
            (daemon.volume / f"run-{RUNS - 1}/checkpoint-1/model.bin").exists, "what no manifest describes is shown"
        )
        yield daemon
    finally:
        daemon.end()
        clear_mounts(daemon.volume, ram)
        shutil.rmtree(ram, ignore_errors=True)


@pytest.fixture
def run(node: Daemon) -> Run:
    return Run(node)


def test_names_sizes_and_times_are_those_of_the_listing_and_looking_fetches_nothing(run: Run) -> None:
    assert run.shown() == ["checkpoint-1/model.bin", "checkpoint-1/trainer_state.json", "notes.txt"]
    found, root = (run.folder / "checkpoint-1/model.bin").stat(), (run.daemon.ram / "volumes/ckpt").stat()
    assert (found.st_size, found.st_mtime, found.st_mode & 0o7777) == (MIB + 7, OLD, 0o644)
    assert (found.st_uid, found.st_gid) == (root.st_uid, root.st_gid)
    assert run.hot() == []


def test_what_is_opened_is_fetched_and_stays_a_file(run: Run) -> None:
    path = run.folder / "checkpoint-1/model.bin"
    before = path.stat()
    assert path.read_bytes() == (run.there / "checkpoint-1/model.bin").read_bytes()
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_mode) == (before.st_size, before.st_mtime_ns, before.st_mode)
    assert run.hot() == ["checkpoint-1/model.bin"]
    time.sleep(1)  # more than it takes to commit a checkpoint
    assert run.daemon.checkpoint(run.name, 1) is None, "it is no checkpoint"
    assert run.daemon.ctl("latest", run.name, check=None).returncode != 0
    assert not list(run.daemon.remote.glob(f".ckptd/manifests/{run.name}/*"))
    run.daemon.ctl("flush")
    assert run.hot() == ["checkpoint-1/model.bin"]


def test_the_first_bytes_are_there_before_the_last(run: Run) -> None:
    content = os.urandom(64 * MIB)
    save(run.there, {"large.bin": content})
    assert "large.bin" in run.shown()
    with (run.folder / "large.bin").open("rb", buffering=0) as file:
        assert file.read(4096) == content[:4096]
    assert (run.folder / "large.bin").read_bytes() == content


def test_what_comes_and_goes_is_followed(run: Run) -> None:
    save(run.there, {"new.txt": b"new"})
    assert "new.txt" in run.shown()
    assert (run.folder / "new.txt").read_bytes() == b"new"
    save(run.there, {"new.txt": b"newer"})
    run.shown()
    run.daemon.until(
        lambda: (run.folder / "new.txt").read_bytes() == b"newer", "another version replaces what was fetched"
    )
    (run.there / "new.txt").unlink()
    (run.there / "notes.txt").unlink()
    run.daemon.until(
        lambda: run.shown() == ["checkpoint-1/model.bin", "checkpoint-1/trainer_state.json"], "both are gone"
    )


def test_what_the_job_deletes_is_hidden_here_and_stays_there(run: Run) -> None:
    assert (run.folder / "notes.txt").read_bytes() == b"n"
    (run.folder / "notes.txt").unlink()  # fetched
    (run.folder / "checkpoint-1/model.bin").unlink()  # not fetched
    run.daemon.ctl("flush")
    time.sleep(1)
    assert run.shown() == ["checkpoint-1/trainer_state.json"]
    os.kill(run.daemon.worker_pid(), signal.SIGKILL)
    time.sleep(12)  # leftovers are deleted every ten seconds
    assert run.shown() == ["checkpoint-1/trainer_state.json"]
    assert (run.there / "notes.txt").read_bytes() == b"n"
    assert (run.there / "checkpoint-1/model.bin").exists()
    save(run.there, {"notes.txt": b"another"})
    run.daemon.until(lambda: "notes.txt" in run.shown(), "another version is shown")


def test_what_the_job_writes_there_wins(run: Run) -> None:
    (run.folder / "notes.txt").write_bytes(b"the job's")
    save(run.folder, {"checkpoint-2/model.bin": b"m" * MIB, "checkpoint-2/trainer_state.json": b"{}"})
    run.daemon.committed(run.name, 2)
    run.daemon.ctl("flush")
    run.daemon.until(lambda: (run.there / "notes.txt").read_bytes() == b"the job's", "it is sent")
    assert (run.folder / "notes.txt").read_bytes() == b"the job's"
    assert run.shown()[:2] == ["checkpoint-1/model.bin", "checkpoint-1/trainer_state.json"], "the others stay"
    run.daemon.ctl("rm", run.name, "--remote", "--yes")
    assert sorted(path.name for path in (run.there / "checkpoint-1").iterdir()) == ["model.bin", "trainer_state.json"]


def test_renamed_it_is_a_file_of_the_job(run: Run) -> None:
    assert (run.folder / "notes.txt").read_bytes() == b"n"
    (run.folder / "notes.txt").rename(run.folder / "mine.txt")
    run.daemon.until((run.there / "mine.txt").exists, "it is sent under its new name")
    assert (run.there / "notes.txt").read_bytes() == b"n"
    assert "notes.txt" not in run.shown()


def test_a_checkpoint_that_is_still_being_sent_is_not_shown(run: Run) -> None:
    """By its framework's last file, or, where there is none, by the time that nothing has come."""
    save(run.there, {"checkpoint-7/model.bin": b"m", "checkpoint-8/weights.dat": b"w"})
    assert run.shown() == ["checkpoint-1/model.bin", "checkpoint-1/trainer_state.json", "notes.txt"]
    save(run.there, {"checkpoint-7/trainer_state.json": b"{}"})
    os.utime(run.there / "checkpoint-8/weights.dat", (OLD, OLD))
    shown = run.shown()
    assert {"checkpoint-7/model.bin", "checkpoint-8/weights.dat"} <= set(shown)


def test_it_must_have_what_the_committed_one_before_it_has(run: Run) -> None:
    """Where no framework's last file tells: another node that died while it sent leaves a part of one for ever."""
    save(run.folder, {f"ckpt-20/{name}.dat": name.encode() for name in "ab"})
    run.daemon.committed(run.name, 20)
    save(run.there, {"ckpt-21/a.dat": b"a"})
    os.utime(run.there / "ckpt-21/a.dat", (OLD, OLD))
    assert not any(name.startswith("ckpt-21") for name in run.shown())
    save(run.there, {"ckpt-21/b.dat": b"b"})
    os.utime(run.there / "ckpt-21/b.dat", (OLD, OLD))
    assert {"ckpt-21/a.dat", "ckpt-21/b.dat"} <= set(run.shown())


def test_names_that_cannot_be_are_passed_over(run: Run) -> None:
    save(run.there, {".ckptd-x": b"x", "a%41": b"escaped", "sub/.ckptd-y/z": b"z", "fine": b"f"})
    assert run.shown() == ["checkpoint-1/model.bin", "checkpoint-1/trainer_state.json", "fine", "notes.txt"]


def test_another_worker_leaves_them_in_sight(run: Run) -> None:
    stub = run.daemon.ram / "volumes/ckpt" / run.name / "notes.txt"
    before = stub.lstat().st_ino
    os.kill(run.daemon.worker_pid(), signal.SIGKILL)
    run.shown()
    run.daemon.until(lambda: (run.folder / "notes.txt").read_bytes() == b"n", "it can be opened")
    other = run.daemon.ram / "volumes/ckpt" / run.name / "checkpoint-1/model.bin"
    assert other.is_symlink()
    assert before


def test_an_object_that_others_replace_is_never_written_over(new_mounted: Callable[..., Daemon]) -> None:
    """Also where the daemon finds it out by itself, because it wants to let go of what it has fetched."""
    daemon = new_mounted(ram_budget="64MiB", nvme_budget="0")
    save(daemon.remote, {"data/large.bin": b"a" * 20 * MIB})
    daemon.start()
    path, there = daemon.volume / "data/large.bin", daemon.remote / "data/large.bin"
    daemon.until(path.exists, "it is shown")
    assert path.read_bytes()[:1] == b"a"
    save(there.parent, {"new": b"b" * 20 * MIB})
    (there.parent / "new").rename(there)
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"m" * 30 * MIB, "DONE": b""})
    daemon.committed("run-1", 1)
    daemon.ctl("flush", "run-1")
    daemon.until(lambda: "copy.gone" in events(daemon), "it wanted to let go of what it has fetched")
    daemon.ctl("ls")  # lets go of the old one, for a moment with its name
    daemon.until(path.exists, "the new one is there")
    assert path.read_bytes()[:1] == b"b"
    assert there.read_bytes()[:1] == b"b"


@pytest.mark.s3
def test_a_bucket_that_others_have_filled(new_mounted: Callable[..., Daemon], s3_server: Any, s3_remote: Any) -> None:
    bucket, content = Bucket(s3_server, s3_remote.url), os.urandom(2 * PART + 9)
    bucket.put("data/vocab.json", b"{}")
    bucket.put("data/large.bin", content)
    daemon = new_mounted(remote=s3_remote.url, options=options(s3_remote), transfer=TRANSFER)
    daemon.start()
    daemon.until((daemon.volume / "data/large.bin").exists, "they are shown")
    assert sorted(os.listdir(daemon.volume / "data")) == ["large.bin", "vocab.json"]
    before = (daemon.volume / "data/large.bin").stat()
    assert (daemon.volume / "data/large.bin").read_bytes() == content
    daemon.ctl("ls")
    time.sleep(1)
    after = (daemon.volume / "data/large.bin").stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert not (daemon.ram / "volumes/ckpt/data/large.bin").is_symlink(), "it is the same version, and stays"
    daemon.end()
    assert bucket.get("data/large.bin") == content
    bucket.clear()
