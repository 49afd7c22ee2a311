"""Memory is allocated ahead of writers, and nothing of it stays beyond the end of a file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests_mount_served import Served, wait_for

from ckptd.fronts.mount.expected import Expected

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mount_ahead")]
MIB = 1 << 20


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_what_the_same_file_weighed_before_is_allocated_at_its_opening(served: Served) -> None:
    for step in (1, 2):
        (served.path / f"checkpoint-{step}").mkdir()
    (served.path / "checkpoint-1/model.bin").write_bytes(bytes(8 * MIB))
    target = served.path / "checkpoint-2/model.bin"
    with target.open("wb", buffering=0) as file:
        assert os.fstat(file.fileno()).st_size == 0
        assert allocated(served.backing / "checkpoint-2/model.bin") == 8 * MIB
        file.write(b"x" * 1000)
        os.utime(file.fileno(), ns=(7, 1_700_000_000_123_456_789))
    wait_for(lambda: allocated(target) <= 4096)
    assert target.stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert target.read_bytes() == b"x" * 1000


def test_a_file_that_grows_is_kept_ahead_of(served: Served) -> None:
    target = served.path / "new.bin"
    with target.open("wb", buffering=0) as file:
        file.write(bytes(32 * MIB))
        wait_for(lambda: allocated(target) >= 64 * MIB)
        assert target.stat().st_size == 32 * MIB
    wait_for(lambda: allocated(target) == 32 * MIB)


def test_a_file_with_a_hole_keeps_it(served: Served) -> None:
    target = served.path / "sparse.bin"
    with target.open("wb", buffering=0) as file:
        file.truncate(1 << 30)
        file.write(b"begin")
        time.sleep(0.2)
        assert allocated(target) <= 2 * MIB
    assert target.stat().st_size == 1 << 30
    assert allocated(target) <= 2 * MIB


def test_what_a_killed_server_had_allocated_is_cut_off_by_the_next(served: Served) -> None:
    target = served.path / "new.bin"
    # In a process of its own: nobody may start a server who has files of its mount open.
    words = ["f = open(sys.argv[1], 'wb', buffering=0)", "f.write(bytes(32 << 20))", "input()", "f.write(b'more')"]
    writer = subprocess.Popen([sys.executable, "-c", "import sys; " + "; ".join(words), target], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: target.exists() and allocated(target) >= 64 * MIB)
        served.kill()
        served.start()
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.close()
        assert writer.wait(20) == 0
    finally:
        writer.kill()
        writer.wait()
    wait_for(lambda: allocated(target) < 36 * MIB)
    assert target.stat().st_size == 32 * MIB + 4


def test_a_file_that_is_truncated_and_written_again_is_followed_again(served: Served) -> None:
    target = served.path / "again.bin"
    target.write_bytes(bytes(16 * MIB))
    with target.open("r+b", buffering=0) as file:
        file.truncate(0)
        assert allocated(target) == 0
        file.write(bytes(4 * MIB))
    with target.open("wb", buffering=0):
        wait_for(lambda: allocated(target) >= 4 * MIB)
    wait_for(lambda: allocated(target) == 0)


def test_names_are_alike_but_for_numbers() -> None:
    expected = Expected()
    expected.note(b"run-1/checkpoint-100/model-00001-of-00002.bin", 10)
    expected.note(b"run-1/checkpoint-100/model-00002-of-00002.bin", 5)
    assert expected.of(b"run-1/checkpoint-200/model-00001-of-00002.bin") == 10
    assert expected.of(b"run-1/checkpoint-200/model-00003-of-00003.bin") == 5
    assert expected.of(b"run-1/checkpoint-200/config.json") is None
    expected.note(b"flat/step_100.pt", 7)
    assert expected.of(b"flat/step_200.pt") == 7
    expected.learn([(b"flat/step_300.pt", 9), (b"flat/other.pt", 1)])
    assert (expected.of(b"flat/step_400.pt"), expected.of(b"flat/other.pt")) == (7, 1)
