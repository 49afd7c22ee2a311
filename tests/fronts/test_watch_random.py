"""Whatever is done to a directory, and however late the front comes to look: what it reports leads to the truth."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from watched_directory import Watched, contents

from ckptd.tiers.rename import How, rename

NAMES = ["a", "b"]
SOME = st.integers(0, 50)
"""Picks one of the paths that exist."""
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


def for_writing(path: str, flags: int) -> int:
    """Opening a fifo would wait for its reader. What is written to a file of several names is told of one of them only."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_nlink > 1:
            raise PermissionError(path)
    return os.open(path, flags | os.O_NONBLOCK)


class Directory(RuleBasedStateMachine):
    """Operations run while the event loop stands still: the disk is ahead of the events, until `agree` lets them catch
    up. Operations that make no sense at the moment fail, and nothing happens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.base = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None, prefix="ckptd-test-")
        self.root, self.outside = os.path.join(self.base, "volume"), os.path.join(self.base, "outside")
        os.mkdir(self.root)
        os.mkdir(self.outside)
        self.loop = asyncio.new_event_loop()
        self.watched = self.loop.run_until_complete(self._start())
        self.open: list[object] = []
        self.dirty = False

    async def _start(self) -> Watched:
        watched = Watched(self.root, grace_s=0.004)
        await watched.front.start()
        return watched

    def _at(self, path: str | int) -> str:
        self.dirty = True
        if isinstance(path, str):
            return os.path.join(self.root, path)
        paths = sorted(
            os.path.join(above, name) for above, *both in os.walk(self.root) for names in both for name in names
        )
        return paths[path % len(paths)] if paths else os.path.join(self.root, "none")

    @rule(path=PATHS)
    def make_directory(self, path: str) -> None:
        with contextlib.suppress(OSError):
            os.makedirs(self._at(path))

    @rule(path=PATHS, content=st.binary(max_size=5), append=st.booleans())
    def write(self, path: str, content: bytes, append: bool) -> None:
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self._at(path)), exist_ok=True)
            with open(self._at(path), "ab" if append else "wb", opener=for_writing) as file:
                file.write(content)

    @rule(path=PATHS, content=st.binary(max_size=5))
    def open_and_write(self, path: str, content: bytes) -> None:
        with contextlib.suppress(OSError):
            file = open(self._at(path), "wb", opener=for_writing)  # noqa: SIM115
            file.write(content)
            file.flush()
            self.open.append(file)

    @rule()
    @precondition(lambda self: self.open)
    def close(self) -> None:
        self.dirty = True
        self.open.pop(0).close()  # type: ignore[attr-defined]

    @rule(source=SOME, destination=PATHS)
    def move(self, source: int, destination: str) -> None:
        with contextlib.suppress(OSError):
            os.rename(self._at(source), self._at(destination))

    @rule(one=SOME, other=SOME)
    def exchange(self, one: int, other: int) -> None:
        with contextlib.suppress(OSError):
            rename(self._at(one), self._at(other), How.EXCHANGE)

    @rule(path=SOME, name=st.sampled_from(NAMES))
    def move_out(self, path: int, name: str) -> None:
        with contextlib.suppress(OSError):
            os.rename(self._at(path), os.path.join(self.outside, name))

    @rule(path=PATHS, name=st.sampled_from(NAMES))
    def move_in(self, path: str, name: str) -> None:
        with contextlib.suppress(OSError):
            os.rename(os.path.join(self.outside, name), self._at(path))

    @rule(path=SOME, name=st.sampled_from(NAMES))
    def exchange_with_outside(self, path: int, name: str) -> None:
        with contextlib.suppress(OSError):
            rename(os.path.join(self.outside, name), self._at(path), How.EXCHANGE)

    @rule(source=SOME, destination=PATHS, symbolic=st.booleans())
    def link(self, source: int, destination: str, symbolic: bool) -> None:
        with contextlib.suppress(OSError):
            (os.symlink if symbolic else os.link)(self._at(source), self._at(destination))

    @rule(path=PATHS)
    def fifo(self, path: str) -> None:
        with contextlib.suppress(OSError):
            os.mkfifo(self._at(path))

    @rule(path=SOME)
    def delete(self, path: int) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._at(path))

    @rule(path=SOME)
    def delete_tree(self, path: int) -> None:
        full = self._at(path)
        if os.path.isdir(full):  # rmtree would wait for a fifo's writer
            shutil.rmtree(full, ignore_errors=True)

    @rule(path=SOME)
    def touch(self, path: int) -> None:
        with contextlib.suppress(OSError):
            os.utime(self._at(path), (1, 1), follow_symlinks=False)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.006]))
    def let_it_run(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule()
    @precondition(lambda self: self.dirty)
    def agree(self) -> None:
        while self.open:
            self.close()
        self.loop.run_until_complete(self.watched.quiet())
        real = contents(self.root)
        assert self.watched.known == real, sorted(self.watched.known.items() ^ real.items())
        self.the_tree_has_one_node_a_watch()
        self.dirty = False

    def the_tree_has_one_node_a_watch(self) -> None:
        tree = self.watched.front._translator.tree
        hanging = [node.wd for node in tree.root.subtree() if node.wd is not None]
        assert len(hanging) == len(set(hanging))

    def teardown(self) -> None:
        try:
            if self.dirty:
                self.agree()
        finally:
            self.loop.run_until_complete(self.watched.front.stop())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            for file in self.open:
                file.close()  # type: ignore[attr-defined]
            shutil.rmtree(self.base)


Directory.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestDirectory = Directory.TestCase
