"""Locks between processes of the node. The kernel keeps them: no server of a mount knows of any."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_mount_served import Served

pytestmark = pytest.mark.mount
SCRIPT = Path(__file__).with_name("tests_mount_locker.py")
KINDS = ["flock", "fcntl", "ofd"]
ALL = "0 0"
"""The whole file."""


class Locker:
    """Another process that has the file open."""

    def __init__(self, path: Path, kind: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, path, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.answer() == "open"

    def tell(self, words: str) -> None:
        assert self.process.stdin is not None
        print(words, file=self.process.stdin, flush=True)

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, words: str) -> str:
        self.tell(words)
        return self.answer()

    def waits(self) -> bool:
        """In the kernel, for a lock: flock_lock_inode_wait, fcntl_setlk."""
        with contextlib.suppress(FileNotFoundError):
            return "lk" in Path(f"/proc/{self.process.pid}/wchan").read_text().replace("lock", "lk")
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def locker(either: Served) -> Iterator[Callable[[str], Locker]]:
    path, made = either.path / "file", list[Locker]()
    path.write_bytes(b"x" * 100)

    def make(kind: str) -> Locker:
        made.append(Locker(path, kind))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_keeps_others_out_until_it_is_given_back(locker: Callable[[str], Locker], kind: str) -> None:
    one, two = locker(kind), locker(kind)
    assert one.ask(f"lock shared {ALL}") == "held"
    assert two.ask(f"lock shared {ALL}") == "held"
    assert one.ask(f"lock exclusive {ALL}") == "refused"
    assert two.ask(f"free {ALL}") == "free"
    assert one.ask(f"lock exclusive {ALL}") == "held"
    assert two.ask(f"lock shared {ALL}") == "refused"
    two.tell(f"wait exclusive {ALL}")
    assert one.ask(f"free {ALL}") == "free"
    assert two.answer() == "held"
    assert one.ask(f"lock shared {ALL}") == "refused"


@pytest.mark.parametrize("kind", ["fcntl", "ofd"])
def test_ranges_of_a_file_are_locked_apart(locker: Callable[[str], Locker], kind: str) -> None:
    one, two = locker(kind), locker(kind)
    assert one.ask("lock exclusive 0 10") == "held"
    assert two.ask("lock exclusive 10 10") == "held"
    assert two.ask("lock exclusive 9 1") == "refused"
    assert one.ask("free 5 5") == "free"
    assert two.ask("lock exclusive 9 1") == "held"


def test_who_holds_a_lock_can_be_asked(locker: Callable[[str], Locker]) -> None:
    one, two = locker("fcntl"), locker("fcntl")
    assert two.ask("who 0 10") == "0"
    assert one.ask("lock exclusive 0 10") == "held"
    assert two.ask("who 5 1") == str(one.process.pid)


def test_flock_and_fcntl_know_nothing_of_each_other(locker: Callable[[str], Locker]) -> None:
    """As on every local file system."""
    one, two = locker("flock"), locker("fcntl")
    assert one.ask(f"lock exclusive {ALL}") == "held"
    assert two.ask(f"lock exclusive {ALL}") == "held"


@pytest.mark.parametrize("kind", KINDS)
def test_the_lock_of_a_process_that_is_killed_is_free(locker: Callable[[str], Locker], kind: str) -> None:
    one, two = locker(kind), locker(kind)
    assert one.ask(f"lock exclusive {ALL}") == "held"
    two.tell(f"wait exclusive {ALL}")
    end = time.monotonic() + 10
    while not two.waits() and time.monotonic() < end:
        time.sleep(0.01)
    assert two.waits(), "two is kept out"
    one.kill()
    assert two.answer() == "held"


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_killed_takes_no_lock_along(
    either: Served, locker: Callable[[str], Locker], kind: str
) -> None:
    """And locks are taken and given back while there is no server at all."""
    one, two = locker(kind), locker(kind)
    assert one.ask(f"lock exclusive {ALL}") == "held"
    either.kill()
    assert two.ask(f"lock exclusive {ALL}") == "refused"
    assert one.ask(f"free {ALL}") == "free"
    assert two.ask(f"lock exclusive {ALL}") == "held"
    either.start()
    three = locker(kind)
    assert three.ask(f"lock exclusive {ALL}") == "refused"
    two.kill()
    three.tell(f"wait exclusive {ALL}")
    assert three.answer() == "held"


@pytest.mark.parametrize("kind", KINDS)
def test_the_lock_of_a_process_that_is_killed_while_there_is_no_server_is_free_with_the_next_one(
    either: Served, locker: Callable[[str], Locker], kind: str
) -> None:
    one, two = locker(kind), locker(kind)
    assert one.ask(f"lock exclusive {ALL}") == "held"
    either.kill()
    one.process.kill()
    two.tell(f"wait exclusive {ALL}")
    either.start()
    assert two.answer() == "held"
    one.kill()
