"""A job that never stops writing, and a daemon that never stops moving its file about: no written byte is ever lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ckptd.domain.errors import Busy, Conflict, SourceChanged
from ckptd.tiers import swap
from ckptd.tiers.attributes import attributes_of

WRITER = """
import os, sys, time
path, how, seconds, reads = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4] == "reads"
end = time.monotonic() + seconds
count = 0
os.makedirs(os.path.dirname(path), exist_ok=True)
while time.monotonic() < end or count == 0:
    count += 1
    text = f"{count}:" + "x" * (count % 5000)
    if how == "replace":
        with open(path + ".new", "w") as file: file.write(text)
        os.rename(path + ".new", path)
    elif how == "rewrite":
        with open(path, "w") as file: file.write(text)
    elif how == "update":
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.pwrite(fd, b"%12d" % count, 0)
        os.close(fd)
    elif how == "recreate":
        try: os.unlink(path)
        except FileNotFoundError: pass
        with open(path, "x") as file: file.write(text)
    if how == "update": text = "%12d" % count
    for attempt in range(50 if reads else 0):
        with open(path) as file: found = file.read()
        if found == text: break
        time.sleep(0.001)  # replaced within the microseconds of an exchange: the older content shows until it is undone
    else:
        assert not reads, (found[:20], text[:20], len(found), len(text))
    if count % 3 == 0: time.sleep(0.004)
print(count)
"""


class Daemon:
    """Demotes and promotes one file as fast as it can, as the engine would."""

    def __init__(self, place: Path) -> None:
        self.root = place / "volume"
        self.path = self.root / "run" / "f"
        self.objects = place / "objects"
        self.staged = place / "staged"
        (self.root / "run").mkdir(parents=True)
        self.objects.mkdir()
        self.done = {"out": 0, "in": 0, "refused": 0}

    def step(self) -> None:
        try:
            target = self._link()
            if target is not None:
                self._promote(target)
            elif self.path.exists():
                self._demote()
        except (Busy, SourceChanged, Conflict):
            self.done["refused"] += 1
        except FileNotFoundError:
            pass  # the job is between unlink and create

    def _link(self) -> str | None:
        """Where the link leads; None for a file. Asked in one call: the job may replace it at any moment."""
        try:
            return os.readlink(self.path)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def _demote(self) -> None:
        stamp = swap.stamp_of(str(self.path))
        if stamp is None or swap.has_writer(str(self.path)) is not False:
            return
        target = self.objects / str(self.done["out"])
        shutil.copyfile(self.path, target)
        if swap.stamp_of(str(self.path)) != stamp or target.stat().st_size != stamp.size:
            target.unlink()
            return
        try:
            swap.link_out(str(self.root), "run/f", stamp, str(target), grace_s=0.002)
        except BaseException:
            target.unlink()
            raise
        self.done["out"] += 1

    def _promote(self, target: str) -> None:
        stamp = swap.stamp_of(target)
        if stamp is None or swap.has_writer(target) is not False:
            return
        shutil.copyfile(target, self.staged)
        if swap.stamp_of(target) != stamp or self.staged.stat().st_size != stamp.size:
            return
        attributes = attributes_of(target)
        swap.relink(str(self.root), "run/f", str(self.staged), target, stamp, attributes, grace_s=0.002)
        self.done["in"] += 1


@pytest.mark.parametrize("how", ["replace", "rewrite", "update", "recreate"])
def test_the_job_always_reads_what_it_wrote_last(place: Path, how: str) -> None:
    daemon = Daemon(place)
    arguments = [sys.executable, "-c", WRITER, str(daemon.path), how, "1.2", "reads"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        while writer.poll() is None:
            daemon.step()
        assert writer.stdout is not None
        count = writer.stdout.read().strip()
    assert writer.returncode == 0
    text = daemon.path.read_text()
    assert int(text.split(":")[0]) == int(count)
    assert [name for name in os.listdir(daemon.root / "run") if name.startswith(".ckptd-")] == []
    assert daemon.done["out"] > 0


APPENDER = """
import os, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
end = time.monotonic() + seconds
count = 0
while time.monotonic() < end or count == 0:
    count += 1
    with open(path, "a") as file: file.write(f"{count}\\n")
    if count % 2: time.sleep(0.003)
print(count)
"""


def test_no_appended_line_is_lost(place: Path) -> None:
    daemon = Daemon(place)
    daemon.path.write_text("")
    arguments = [sys.executable, "-c", APPENDER, str(daemon.path), "1.5"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        while writer.poll() is None:
            daemon.step()
        assert writer.stdout is not None
        count = int(writer.stdout.read())
    assert daemon.path.read_text().split() == [str(number) for number in range(1, count + 1)]
    assert daemon.done["in"] > 0


@pytest.mark.parametrize("how", ["replace", "rewrite", "update"])
def test_what_is_evicted_while_the_job_writes_was_copied_whole_before(place: Path, how: str) -> None:
    daemon = Daemon(place)
    durable, evicted = "", 0
    arguments = [sys.executable, "-c", WRITER, str(daemon.path), how, "1", "writes"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        while writer.poll() is None:
            stamp = swap.stamp_of(str(daemon.path))
            if stamp is None or swap.has_writer(str(daemon.path)) is not False:
                continue
            with contextlib.suppress(Busy, SourceChanged, FileNotFoundError):
                copied = daemon.path.read_text()
                swap.remove(str(daemon.root), "run/f", stamp, grace_s=0.002)
                durable, evicted = copied, evicted + 1
        assert writer.stdout is not None
        count = int(writer.stdout.read())
    assert writer.returncode == 0
    last = daemon.path.read_text() if daemon.path.exists() else durable
    assert int(last.split(":")[0]) == count
    assert evicted > 0
