"""Cold files of a mounted volume: listed as they are, fetched when somebody opens one."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_mounted_volume import as_user
from tests_node_daemon import MIB, Daemon, clear_mounts, save

from ckptd.fronts.mount import mounting

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_cold")]


RUNS = 17
"""Each test has a run of its own: the node is shared, because starting one takes seconds."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A node that is new to a remote in which another one has committed steps 1 and 2 of every run. Anybody may enter."""
    home = Path(tempfile.mkdtemp(prefix="ckptd-test-mounted-"))
    home.chmod(0o755)
    remote = f"file://{tmp_path_factory.mktemp('remote')}/remote"
    daemons = [
        Daemon(home / name, home / f"ram-{name}", remote=remote, front="mount", volume=home / f"ckpt-{name}")
        for name in ("first", "second")
    ]
    try:
        first, second = daemons
        first.start()
        for run in range(RUNS):
            for step in (1, 2):
                folder = first.volume / f"run-{run}/checkpoint-{step}"
                files = {
                    "model.bin": os.urandom(MIB + 7),
                    "config.json": b"{}" * step,
                    "sub/part.bin": os.urandom(70_000),
                }
                save(folder, files)
                os.chmod(folder / "config.json", 0o640)
                os.utime(folder / "model.bin", ns=(1_700_000_000_123_456_789, 1_700_000_000_987_654_321))
        first.ctl("flush")
        for run in range(RUNS):
            first.committed(f"run-{run}", 2)
        first.end()
        second.start()
        last = second.volume / f"run-{RUNS - 1}/checkpoint-2/model.bin"
        second.until(last.exists, "cold files are shown")
        yield second
    finally:
        for daemon in daemons:
            daemon.end()
            clear_mounts(daemon.volume, daemon.ram)
        shutil.rmtree(home)


class Cold:
    """One run of it."""

    numbers = itertools.count()

    def __init__(self, daemon: Daemon) -> None:
        self.daemon, self.run = daemon, f"run-{next(self.numbers)}"
        self.folder, self.there = daemon.volume / self.run, daemon.remote / self.run

    def hot(self) -> int:
        """Bytes of the run that were fetched."""
        found = self.daemon.get(f"/v1/runs/{self.run}/checkpoints")
        return sum(int(checkpoint["hot_bytes"]) for checkpoint in found)


@pytest.fixture
def cold(node: Daemon) -> Cold:
    return Cold(node)


def test_names_sizes_and_attributes_are_the_remotes_and_looking_fetches_nothing(cold: Cold) -> None:
    folder = cold.folder / "checkpoint-2"
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) == [
        "config.json", "model.bin", "sub", "sub/part.bin",
    ]  # fmt: skip
    model, config = (folder / "model.bin").stat(), (folder / "config.json").stat()
    assert (model.st_size, model.st_mtime_ns) == (MIB + 7, 1_700_000_000_987_654_321)
    assert (config.st_mode & 0o7777, config.st_size, config.st_nlink) == (0o640, 4, 1)
    assert not (folder / "model.bin").is_symlink()
    assert os.listxattr(folder / "model.bin") == []
    assert cold.hot() == 0


def test_what_is_opened_is_fetched_whole_and_the_rest_is_not(cold: Cold) -> None:
    path = cold.folder / "checkpoint-2/model.bin"
    before = path.stat()
    assert path.read_bytes() == (cold.there / "checkpoint-2/model.bin").read_bytes()
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_mode) == (before.st_size, before.st_mtime_ns, before.st_mode)
    cold.daemon.until(lambda: cold.hot() == MIB + 7, "only that file is hot")


def test_many_who_open_a_file_share_one_fetch(cold: Cold) -> None:
    path = cold.folder / "checkpoint-1/model.bin"
    read: list[bytes] = []
    threads = [threading.Thread(target=lambda: read.append(path.read_bytes())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(read) == 8
    assert set(read) == {(cold.there / "checkpoint-1/model.bin").read_bytes()}
    cold.daemon.until(lambda: cold.hot() == MIB + 7, "it is there once")


def test_a_file_whose_fetch_fails_is_an_error_and_the_next_open_tries_again(cold: Cold) -> None:
    path, there = cold.folder / "checkpoint-1/model.bin", cold.there / "checkpoint-1/model.bin"
    good = there.read_bytes()
    there.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the errno is what counts
        path.open("rb")
    assert refused.value.errno == errno.EIO
    events = cold.daemon.json("events")
    assert any(event["event"] == "open.failed" and cold.run in event["message"] for event in events), events
    there.write_bytes(good)
    cold.daemon.ctl("verify", f"{cold.run}@1", check=None)  # takes it out of quarantine
    cold.daemon.until(path.exists, "it is shown again")
    assert path.read_bytes() == good


def test_a_worker_that_is_killed_while_somebody_waits_is_only_late(cold: Cold) -> None:
    path = cold.folder / "checkpoint-1/sub/part.bin"
    worker = cold.daemon.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    reader.join(0.5)
    assert reader.is_alive(), "nobody could have fetched it"
    os.kill(worker, signal.SIGKILL)
    reader.join(60)
    assert read == [(cold.there / "checkpoint-1/sub/part.bin").read_bytes()]


def test_another_worker_leaves_the_names_as_they_are_and_removes_only_what_is_not_wanted(cold: Cold) -> None:
    tree = cold.daemon.ram / "volumes/ckpt" / cold.run
    stub, stale = tree / "checkpoint-1/model.bin", tree / "checkpoint-1/stale.bin"
    before = stub.lstat().st_ino
    stale.symlink_to(os.readlink(stub))  # as if an earlier worker had shown what is in the remote no more
    os.kill(cold.daemon.worker_pid(), signal.SIGKILL)
    cold.daemon.until(lambda: not os.path.lexists(stale), "it is known what is wanted", timeout=60)
    assert stub.lstat().st_ino == before
    assert (cold.folder / "checkpoint-1/model.bin").stat().st_size == MIB + 7


def test_a_job_may_delete_cold_files_and_the_remote_keeps_them(cold: Cold) -> None:
    daemon = cold.daemon
    daemon.json(
        "ls", cold.run
    )  # the test before this one may have killed the worker, without which nobody sees what is deleted
    shutil.rmtree(cold.folder / "checkpoint-1")
    assert os.listdir(cold.folder) == ["checkpoint-2"]
    assert len(daemon.json("ls", cold.run)) == 2, "it is known still"
    time.sleep(1)  # time for a stub to be made again, which must not happen
    assert not (cold.folder / "checkpoint-1").exists(), sorted((cold.folder / "checkpoint-1").rglob("*"))
    assert (cold.there / "checkpoint-1/model.bin").exists()
    daemon.ctl("prefetch", f"{cold.run}@1")
    assert (cold.folder / "checkpoint-1/config.json").read_bytes() == b"{}"
    daemon.ctl("evict", f"{cold.run}@1")  # what was brought back stays in sight
    assert (cold.folder / "checkpoint-1/config.json").stat().st_size == 2


def test_another_name_for_a_cold_file_is_a_copy_and_mv_makes_it(cold: Cold) -> None:
    source, target = cold.folder / "checkpoint-1/sub/part.bin", cold.folder / "best.bin"
    with pytest.raises(OSError) as refused:  # noqa: PT011
        source.rename(target)
    assert refused.value.errno == errno.EXDEV
    with pytest.raises(OSError) as refused:  # noqa: PT011
        (cold.folder / "checkpoint-1").rename(cold.folder / "other")
    assert refused.value.errno == errno.EXDEV
    content = (cold.there / "checkpoint-1/sub/part.bin").read_bytes()
    shutil.move(source, target)
    assert target.read_bytes() == content
    assert not source.exists()


def test_a_cold_file_can_be_written_over_appended_to_and_truncated(cold: Cold) -> None:
    folder = cold.folder / "checkpoint-2"
    with (folder / "config.json").open("ab") as file:
        file.write(b"more")
    assert (folder / "config.json").read_bytes() == b"{}{}more"
    part = (cold.there / "checkpoint-2/sub/part.bin").read_bytes()
    os.truncate(folder / "sub/part.bin", 10)
    assert (folder / "sub/part.bin").read_bytes() == part[:10]
    (folder / "model.bin").write_bytes(b"new")
    (folder / "new").write_bytes(b"x")
    (folder / "new").replace(folder / "model.bin")
    assert (folder / "model.bin").read_bytes() == b"x"


def test_evicted_files_stay_in_sight_and_come_back(cold: Cold) -> None:
    cold.daemon.ctl("prefetch", f"{cold.run}@2")
    path = cold.folder / "checkpoint-2/model.bin"
    with path.open("rb") as file:
        assert cold.daemon.ctl("evict", f"{cold.run}@2", check=None).returncode != 0, "somebody reads it"
        assert len(file.read()) == MIB + 7
    cold.daemon.ctl("evict", f"{cold.run}@2")
    cold.daemon.until(lambda: cold.hot() == 0, "nothing is hot")
    assert path.stat().st_size == MIB + 7
    assert path.read_bytes() == (cold.there / "checkpoint-2/model.bin").read_bytes()


def test_what_is_removed_from_the_remote_goes_out_of_sight(cold: Cold) -> None:
    cold.daemon.ctl("rm", f"{cold.run}@1", "--remote", "--yes")
    cold.daemon.until(lambda: not (cold.folder / "checkpoint-1").exists(), "it is not shown any more")
    assert (cold.folder / "checkpoint-2/model.bin").exists()


def test_nobody_can_plant_a_link_that_is_shown_as_a_file(cold: Cold) -> None:
    with pytest.raises(PermissionError):
        os.symlink("/.ckptd-cold/777.0.0.5.0", cold.folder / "planted")
    with pytest.raises(PermissionError):
        os.symlink(f"{cold.daemon.home}/nvme/volumes/ckpt/objects/1", cold.folder / "planted")


def test_another_user_may_not_open_what_its_mode_forbids(cold: Cold) -> None:
    denied = as_user(65534, "cat", str(cold.folder / "checkpoint-1/config.json"))
    assert denied.returncode == 1
    assert "Permission denied" in denied.stderr
    assert cold.hot() == 0, "nothing was fetched for him"
    read = as_user(65534, "cat", str(cold.folder / "checkpoint-1/sub/part.bin"), text=False)
    assert read.stdout == (cold.there / "checkpoint-1/sub/part.bin").read_bytes()


def test_the_mounts_type_tells_whose_it_is(cold: Cold) -> None:
    volume = str(cold.daemon.volume)
    line = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1] == volume)
    assert line.split()[:3] == ["ckptd:ckpt", volume, mounting.TYPE.decode()]
