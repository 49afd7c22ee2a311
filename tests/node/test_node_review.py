"""Content that was lost once: directories that cannot be read, and writes through the links of demoted files."""

import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from tests_node_daemon import Daemon, save

TIGHT = "keep_hot = 1\nkeep_nvme = 100"
OLD, NEW = b"old!" * 25_000, b"NEW!" * 25_000


def demoted(daemon: Daemon, names: tuple[str, ...] = ("model.bin",)) -> list[Path]:
    """The files of a checkpoint that has just left RAM."""
    for step in (1, 2):
        save(daemon.volume / f"r/checkpoint-{step}", dict.fromkeys(names, OLD))
        daemon.committed("r", step)
    files = [daemon.volume / "r/checkpoint-1" / name for name in names]
    daemon.until(lambda: all(file.is_symlink() for file in files), "demoted")
    return files


def write_through(link: Path, content: bytes = NEW) -> None:
    with link.open("r+b") as file:
        file.write(content)


def sent(daemon: Daemon, name: str, content: bytes) -> None:
    daemon.until(lambda: (daemon.remote / name).read_bytes() == content, f"{name} sent")


@pytest.fixture
def bound_by_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything: daemons are started without that right."""
    if os.geteuid() != 0:
        return
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv")
    drop = "-dac_override,-dac_read_search"
    wrapper = tmp_path / "python"
    python = shlex.quote(sys.executable)
    wrapper.write_text(f'#!/bin/sh\nexec {setpriv} --bounding-set {drop} --inh-caps {drop} {python} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(wrapper))


@pytest.mark.usefixtures("bound_by_permissions")
def test_the_only_copy_stays_when_its_directory_cannot_be_read_at_a_start(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=TIGHT)
    daemon.start()
    file = demoted(daemon)[0]
    away = daemon.remote.rename(daemon.remote.with_name("away"))
    write_through(file)
    daemon.until(lambda: daemon.json("status")["exposure"]["files"], "exposed")
    daemon.crash()
    renamed = file.parent.rename(file.parent.with_name("checkpoint-7"))
    renamed.chmod(0)
    away.rename(daemon.remote)
    try:
        daemon.start()
        daemon.until(lambda: "front.directory_unwatched" in daemon.log, "noticed")
        time.sleep(1)  # for what must not happen
    finally:
        renamed.chmod(0o755)
    assert (renamed / file.name).read_bytes() == NEW
    daemon.committed("r", 7)
    sent(daemon, "r/checkpoint-7/model.bin", NEW)


def test_what_is_written_through_the_link_right_after_the_exchange_is_sent(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=TIGHT)
    daemon.start()
    names = tuple(f"f{number:02}.bin" for number in range(12))
    files = {daemon.volume / "r/checkpoint-1" / name for name in names}

    def write_early() -> None:
        waiting, end = set(files), time.monotonic() + 30
        while waiting and time.monotonic() < end:
            for file in [one for one in waiting if one.is_symlink()]:
                time.sleep(0.006)
                write_through(file)
                waiting.remove(file)

    writer = Thread(target=write_early)
    writer.start()
    demoted(daemon, names)
    writer.join()
    for file in files:
        sent(daemon, f"r/checkpoint-1/{file.name}", file.read_bytes())


def test_what_is_written_through_a_link_that_was_never_recorded_is_sent(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=TIGHT)
    daemon.start()
    file = demoted(daemon)[0]
    daemon.until(lambda: "nvme" in (daemon.checkpoint("r", 1) or {})["tiers"], "recorded")
    daemon.crash()
    with sqlite3.connect(next((daemon.home / "state").glob("catalog*.db"))) as catalog:
        catalog.execute("UPDATE copies SET place = 'ram' WHERE place = 'nvme'")
    catalog.close()
    write_through(file)
    daemon.start()
    sent(daemon, "r/checkpoint-1/model.bin", NEW)


def test_what_is_written_through_a_copied_link_is_sent(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=TIGHT)
    daemon.start()
    demoted(daemon)
    subprocess.run(["cp", "-a", str(daemon.volume / "r"), str(daemon.volume / "q")], check=True)
    daemon.committed("q", 1)
    shutil.rmtree(daemon.volume / "r/checkpoint-1")
    write_through(daemon.volume / "q/checkpoint-1/model.bin")
    sent(daemon, "q/checkpoint-1/model.bin", NEW)


def test_a_path_that_is_too_long_ends_nothing(daemon: Daemon) -> None:
    worker = daemon.worker_pid()
    run = daemon.volume / "r"
    run.mkdir()
    descriptor = os.open(run, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 240, dir_fd=descriptor)
        below = os.open("d" * 240, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    with open(os.open("f.bin", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor), "wb") as file:
        file.write(b"x")
    os.close(descriptor)
    save(run / "checkpoint-1", {"model.bin": OLD})
    daemon.committed("r", 1)
    assert daemon.worker_pid() == worker
    assert "looking.cannot_tell" in daemon.log
