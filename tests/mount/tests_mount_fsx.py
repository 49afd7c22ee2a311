"""Random calls on one file, each compared with a model of it in memory. In the manner of fsx, the file system exerciser."""

from __future__ import annotations

import mmap
import os
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ckptd.fronts.mount import system

LONGEST = 600_000
PAGE = mmap.PAGESIZE
KEEP_SIZE, PUNCH_HOLE = 1, 2  # <linux/falloc.h>
HANDLES = 3


class Exerciser:
    """`seed` decides everything. What was done last is in the message of an assertion that fails."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.dice = random.Random(seed)
        self.model = bytearray()
        self.seed = seed
        self.did: deque[str] = deque(maxlen=12)
        self.steps = 0
        self.fds = [self._open(os.O_CREAT | os.O_EXCL)]
        self.mapped: mmap.mmap | None = None
        self._room = mmap.mmap(-1, LONGEST + PAGE)  # O_DIRECT wants memory that begins with a page
        self.calls: list[tuple[int, Callable[[], str]]] = [
            (10, self.write), (10, self.read), (4, self.append), (3, self.truncate), (3, self.punch), (2, self.allocate),
            (4, self.map_write), (4, self.map_read), (4, self.reopen), (3, self.direct_write), (3, self.direct_read),
            (2, self.copy), (1, self.sync), (2, self.look), (1, self.holes), (1, self.rename),
        ]  # fmt: skip

    def run(self, steps: int) -> None:
        weights, calls = zip(*self.calls, strict=True)
        for _ in range(steps):
            (call,) = self.dice.choices(calls, weights)
            self.steps += 1
            self.did.append(f"{call.__name__} ...")
            self.did[-1] = f"{call.__name__} {call()}"
        self.whole()

    def close(self) -> None:
        if self.mapped is not None:
            self.mapped.close()
            self.mapped = None
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()

    def same(self, found: bytes, at: int) -> None:
        expected = bytes(self.model[at : at + len(found)])
        if found != expected:
            where = next(
                (number for number, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), len(expected)
            )
            raise AssertionError(f"seed {self.seed}, step {self.steps}: other bytes at {at + where}; {self.history()}")

    def equal(self, found: object, expected: object) -> None:
        assert found == expected, f"seed {self.seed}, step {self.steps}: {found}, not {expected}; {self.history()}"

    def history(self) -> str:
        return " | ".join(self.did)

    # ---- dice

    def _open(self, flags: int = 0) -> int:
        return os.open(self.path, os.O_RDWR | flags, 0o644)

    def _fd(self) -> int:
        return self.dice.choice(self.fds)

    def _span(self, most: int = LONGEST) -> tuple[int, int]:
        """Small ones mostly, and many that touch the end of a page."""
        at = self.dice.randrange(most)
        if self.dice.random() < 0.4:
            at = min(max(0, at // PAGE * PAGE + self.dice.choice([-1, 0, 1])), most - 1)
        length = self.dice.choice([1, 100, PAGE - 1, PAGE, PAGE + 1, 40_000, 150_000])
        return at, max(1, min(length, most - at))

    def _put(self, at: int, data: bytes) -> None:
        if len(self.model) < at:
            self.model.extend(bytes(at - len(self.model)))
        self.model[at : at + len(data)] = data

    def _resize(self, size: int) -> None:
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    # ---- calls

    def write(self) -> str:
        at, length = self._span()
        data = self.dice.randbytes(length)
        self.equal(os.pwrite(self._fd(), data, at), length)
        self._put(at, data)
        return f"{at}+{length}"

    def read(self) -> str:
        at, length = self._span()
        found = os.pread(self._fd(), length, at)
        self.equal(len(found), max(0, min(length, len(self.model) - at)))
        self.same(found, at)
        return f"{at}+{length}"

    def append(self) -> str:
        data = self.dice.randbytes(self.dice.choice([1, 700, PAGE]))
        if len(self.model) + len(data) > LONGEST:
            return "no room"
        fd = self._open(os.O_APPEND)
        try:
            self.equal(os.write(fd, data), len(data))
        finally:
            os.close(fd)
        self._put(len(self.model), data)
        return f"{len(data)}"

    def truncate(self) -> str:
        size, way = self.dice.choice([0, len(self.model) // 2, self._span()[0], LONGEST]), self.dice.randrange(3)
        if way == 0:
            os.truncate(self.path, size)
        elif way == 1:
            os.ftruncate(self._fd(), size)
        else:
            size = 0
            os.close(self._open(os.O_TRUNC))
        self._resize(size)
        return f"to {size} by way {way}"

    def punch(self) -> str:
        at, length = self._span()
        system.fallocate(self._fd(), PUNCH_HOLE | KEEP_SIZE, at, length)
        end = min(len(self.model), at + length)
        if end > at:
            self.model[at:end] = bytes(end - at)
        return f"{at}+{length}"

    def allocate(self) -> str:
        (at, length), keep = self._span(), self.dice.random() < 0.5
        system.fallocate(self._fd(), KEEP_SIZE if keep else 0, at, length)
        if not keep:
            self._resize(max(len(self.model), at + length))
        return f"{at}+{length} keep={keep}"

    def _map(self) -> mmap.mmap | None:
        """Sometimes a mapping that saw all that was done since it was made; a page beyond the end is not touched (SIGBUS)."""
        if self.mapped is not None and self.dice.random() < 0.7:
            return self.mapped
        if self.mapped is not None:
            self.mapped.close()
            self.mapped = None
        if self.model:
            self.mapped = mmap.mmap(self._fd(), len(self.model))
        return self.mapped

    def map_write(self) -> str:
        mapped = self._map()
        if mapped is None or not (limit := min(len(mapped), len(self.model))):
            return "empty"
        at, length = self._span(limit)
        data = self.dice.randbytes(length)
        mapped[at : at + length] = data
        self._put(at, data)
        if self.dice.random() < 0.3:
            mapped.flush()
        return f"{at}+{length}"

    def map_read(self) -> str:
        mapped = self._map()
        if mapped is None or not (limit := min(len(mapped), len(self.model))):
            return "empty"
        at, length = self._span(limit)
        self.same(mapped[at : at + length], at)
        return f"{at}+{length}"

    def reopen(self) -> str:
        if self.dice.random() < 0.2:
            self.close()  # the last close: it is decided anew which way the bytes go
        elif len(self.fds) == HANDLES:
            os.close(self.fds.pop(self.dice.randrange(HANDLES)))
        self.fds.append(self._open())
        return f"{len(self.fds)} open"

    def _direct(self) -> tuple[int, int, int]:
        at, length = self._span(LONGEST - PAGE)
        return self._open(os.O_DIRECT), at // PAGE * PAGE, -(-length // PAGE) * PAGE

    def direct_write(self) -> str:
        fd, at, length = self._direct()
        with memoryview(self._room) as room:
            room[:length] = data = self.dice.randbytes(length)
            try:
                self.equal(os.pwritev(fd, [room[:length]], at), length)
            finally:
                os.close(fd)
        self._put(at, data)
        return f"{at}+{length}"

    def direct_read(self) -> str:
        fd, at, length = self._direct()
        with memoryview(self._room) as room:
            try:
                count = os.preadv(fd, [room[:length]], at)
            finally:
                os.close(fd)
            self.equal(count, max(0, min(length, len(self.model) - at)))
            self.same(bytes(room[:count]), at)
        return f"{at}+{length}"

    def copy(self) -> str:
        (at, length), (to, _) = self._span(), self._span()
        length = max(0, min(length, len(self.model) - at, LONGEST - to))
        if not length or (at < to + length and to < at + length):
            return "nothing, or into itself"
        count = os.copy_file_range(self._fd(), self._fd(), length, at, to)
        self._put(to, bytes(self.model[at : at + count]))
        return f"{at}+{count} to {to}"

    def sync(self) -> str:
        self.dice.choice([os.fsync, os.fdatasync])(self._fd())
        return ""

    def look(self) -> str:
        self.equal({os.fstat(self._fd()).st_size, os.stat(self.path).st_size}, {len(self.model)})
        return f"{len(self.model)}"

    def holes(self) -> str:
        """What is said to be a hole must be zeros. Of a file whose bytes go through the server the kernel asks it, which does not
        know what stands in a mapping only: hence the flush (docs/semantics.md).
        """
        if not self.model:
            return "empty"
        if self.mapped is not None:
            self.mapped.flush()
        hole = os.lseek(self._fd(), self.dice.randrange(len(self.model)), os.SEEK_HOLE)
        try:
            data = os.lseek(self._fd(), hole, os.SEEK_DATA)
        except OSError:  # ENXIO: none after it
            data = len(self.model)
        self.equal(bool(self.model[hole:data].strip(b"\0")), False)
        return f"{hole} to {data}"

    def rename(self) -> str:
        """Over another file, and back under the old name: who has it open notices nothing."""
        other = self.path.with_suffix(".other")
        other.write_bytes(b"other")
        self.path.rename(other)
        other.rename(self.path)
        return ""

    def whole(self) -> None:
        self.equal(self.path.stat().st_size, len(self.model))
        self.same(self.path.read_bytes(), 0)
