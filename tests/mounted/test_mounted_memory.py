"""A job with a memory limit saves a checkpoint that is larger than the limit: the tier's memory is the daemon's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_node_daemon import MIB, Daemon

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_memory")]
LIMIT = 200 * MIB
SAVE = """
import os, sys
block = b"x" * (4 << 20)
for path in sys.argv[1:]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb", buffering=0) as file:
        for _ in range(192):
            file.write(block)
print("saved", flush=True)
"""


class Group:
    """A memory control group, by whichever version is mounted."""

    def __init__(self) -> None:
        v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
        self.is_v2 = "memory" in _text(v2 / "cgroup.controllers").split()
        if not self.is_v2 and not (v1 / "memory.limit_in_bytes").exists():
            pytest.skip("no control groups for memory here")
        self.path = (v2 if self.is_v2 else v1) / f"ckptd-test-{os.getpid()}"
        try:
            if self.is_v2:
                (v2 / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
        except OSError as error:
            pytest.skip(f"control groups cannot be made here: {error.strerror}")
        self._write("memory.max" if self.is_v2 else "memory.limit_in_bytes", str(LIMIT))

    def _write(self, name: str, what: str) -> None:
        (self.path / name).write_text(what)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, capture_output=True, text=True, check=False,
            preexec_fn=lambda: self._write("cgroup.procs", str(os.getpid())),
        )  # fmt: skip

    @property
    def peak(self) -> int:
        return int(_text(self.path / ("memory.peak" if self.is_v2 else "memory.max_usage_in_bytes")))

    def close(self) -> None:
        self.path.rmdir()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.fixture
def group() -> Iterator[Group]:
    made = Group()
    try:
        yield made
    finally:
        made.close()


def test_the_limit_kills_a_job_that_writes_into_plain_memory(group: Group, tmp_path: Path) -> None:
    """What the next test shows is not for lack of a limit."""
    target = Path("/dev/shm") / f"ckptd-test-limit-{os.getpid()}" / "model.bin"
    try:
        assert group.run(sys.executable, "-c", SAVE, str(target)).returncode != 0
    finally:
        target.unlink(missing_ok=True)
        target.parent.rmdir()


def test_a_job_saves_more_than_its_memory_limit(group: Group, new_mounted: Callable[..., Daemon]) -> None:
    """The first save of a run, of which nothing is known, and the next."""
    daemon = new_mounted(ram_budget="3GiB")
    daemon.start()
    targets = [str(daemon.volume / f"run-1/checkpoint-{step}/model.bin") for step in (1, 2)]
    done = group.run(sys.executable, "-c", SAVE, *targets)
    assert (done.returncode, done.stdout) == (0, "saved\n"), done.stderr
    assert group.peak < LIMIT
    for target in targets:
        assert Path(target).stat().st_size == 768 * MIB
    daemon.ctl("flush")
