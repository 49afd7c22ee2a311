"""Programs that ask much of a file system: SQLite, git, fio."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests_mount_served import Served, wait_for

from ckptd.fronts.mount import possible

pytestmark = [
    pytest.mark.skipif(bool(possible.refused_here()), reason=possible.refused_here() or "it can be mounted"),
    pytest.mark.timeout(200),
]  # not marked `mount`: where all of that must run, a machine may still lack git or fio
ROWS = 120
WRITER = """
import sqlite3, sys
path, name, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
base = sqlite3.connect(path, timeout=60, isolation_level=None)
for number in range(rows):
    base.execute("BEGIN IMMEDIATE")
    (count,) = base.execute("SELECT count(*) FROM said").fetchone()
    base.execute("INSERT INTO said VALUES (?, ?, ?, ?)", (name, number, count, "x" * (number * 37 % 3000)))
    base.execute("COMMIT")
    print(number, flush=True)
"""


def new_base(path: Path, journal: str) -> None:
    base = sqlite3.connect(path)
    assert base.execute(f"PRAGMA journal_mode={journal}").fetchone() == (journal,)
    base.execute("CREATE TABLE said (name, number, nth, what, PRIMARY KEY (name, number))")
    base.commit()
    base.close()


def writer(path: Path, name: str, rows: int = ROWS, said: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, path, name, str(rows)], stdout=said, stderr=subprocess.PIPE, text=True
    )


def check(path: Path) -> dict[str, int]:
    """Rows by writer. Each transaction saw all that were before it, so they are numbered without a gap."""
    base = sqlite3.connect(path, timeout=30)
    assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    (rows,) = base.execute("SELECT count(*) FROM said").fetchone()
    assert [nth for (nth,) in base.execute("SELECT nth FROM said ORDER BY nth")] == list(range(rows))
    counts = dict(base.execute("SELECT name, count(*) FROM said GROUP BY name").fetchall())
    base.close()
    return counts


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_two_processes_write_one_sqlite_database(either: Served, journal: str) -> None:
    path = either.path / "base"
    new_base(path, journal)
    writers = [writer(path, name) for name in ("a", "b")]
    outcomes = [one.communicate(timeout=150) for one in writers]
    assert [one.returncode for one in writers] == [0, 0], outcomes
    assert check(path) == {"a": ROWS, "b": ROWS}
    assert os.listdir(either.path) == ["base"], "journals are gone"


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_database_is_whole_when_its_writer_and_servers_were_killed(either: Served, journal: str) -> None:
    path = either.path / "base"
    new_base(path, journal)
    said = either.home / "said"
    with said.open("wb") as output:
        one = writer(path, "a", 100_000, output.fileno())
    other = writer(path, "b")
    try:
        wait_for(lambda: said.stat().st_size, 60)
        for _ in range(3):
            time.sleep(0.2)
            either.kill()
            either.start()
        one.kill()
        one.communicate()
        assert other.communicate(timeout=150)[1] == ""
    finally:
        one.kill()
        other.kill()
    rows = check(path)
    assert rows["b"] == ROWS
    assert rows["a"] >= int(said.read_text().split("\n")[-2]) + 1, "what was committed is there"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_works_there(either: Served) -> None:
    top = either.path
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(top), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    }  # fmt: skip

    def git(*words: str, at: str = "one") -> str:
        done = subprocess.run(
            ["git", *words], cwd=top / at, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    git("init", "-q", "-b", "main", "one", at=".")
    for step in range(5):
        folder = top / f"one/step-{step}"
        folder.mkdir()
        for number in range(20):
            (folder / f"{number}.txt").write_text(f"{step} {number}\n" * (number + 1))
        (top / "one/big").write_bytes(os.urandom(300_000))
        git("add", "-A")
        git("commit", "-q", "-m", f"step {step}")
        assert git("status", "--porcelain") == ""
    git("mv", "step-0", "renamed")
    git("commit", "-q", "-m", "renamed")
    git("clone", "-q", "one", "two", at=".")
    git("clone", "-q", "--no-local", "one", "three", at=".")
    git("gc", "-q", "--aggressive", "--prune=now")
    for at in ("one", "two", "three"):
        assert git("fsck", "--full", "--strict", at=at) == ""
        assert git("status", "--porcelain", at=at) == ""
        assert git("rev-parse", "HEAD", at=at) == git("rev-parse", "HEAD")
    git("checkout", "-q", "HEAD~3", at="two")
    assert (top / "two/step-0").is_dir()
    git("checkout", "-q", "main", at="two")
    assert sorted(os.listdir(top / "two")) == sorted(os.listdir(top / "one"))


@pytest.mark.packagers
@pytest.mark.skipif(shutil.which("fio") is None, reason="fio is not installed (Debian: apt-get install fio)")
@pytest.mark.parametrize(
    ("engine", "direct"),
    [("mmap", 0), *((engine, direct) for engine in ("psync", "libaio", "io_uring") for direct in (0, 1))],
)
def test_fio_reads_what_it_wrote(either: Served, engine: str, direct: int) -> None:
    """Random writes of several sizes by two jobs, many at a time where the engine can, each block with its checksum."""
    done = subprocess.run(
        [
            "fio", "--name=it", f"--directory={either.path}", f"--ioengine={engine}", f"--direct={direct}", "--rw=randrw",
            "--bssplit=4k/50:64k/40:1m/10", "--size=24m", "--numjobs=2", "--iodepth=16", "--verify=crc32c",
            "--verify_fatal=1", "--verify_backlog=64", "--do_verify=1", "--randseed=7", "--group_reporting",
        ],
        capture_output=True, text=True, check=False, cwd=either.home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "err= 0" in done.stdout
