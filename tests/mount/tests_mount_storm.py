"""One writer of the storm: what a training job does to a checkpoint directory, checking each step. Run as a program.

    python tests_mount_storm.py DIR NUMBER SECONDS

Exits with 0 and one line of figures; any error or wrong byte ends it with a traceback.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import sys
import time


def block(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(1 << 12) * (size >> 12)


def save(place: str, step: int, dice: random.Random) -> bytes:
    """Temporary name, bytes, fsync, rename over the name that is there since the step before. Gives the checksum."""
    data = block(step, dice.choice([1 << 20, 3 << 20, (8 << 20) - 4096]))
    temporary = f"{place}/model.bin.tmp"
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
    for at in range(0, len(data), 1 << 20):
        os.write(fd, data[at : at + (1 << 20)])
    if step % 3 == 0:
        with mmap.mmap(fd, len(data)) as mapped:
            mapped[:4096] = data[:4096]
    os.fsync(fd)
    os.close(fd)
    os.rename(temporary, f"{place}/model.bin")
    return hashlib.sha256(data).digest()


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).digest()


def names(place: str, step: int) -> None:
    """Directories, links and names that come and go: each call must have its effect once, and say so."""
    below = f"{place}/step-{step}"
    os.mkdir(below)
    for number in range(5):
        fd = os.open(f"{below}/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        assert os.write(fd, b"%d" % step) == len(str(step))
        os.close(fd)
    os.link(f"{below}/0", f"{below}/link")
    assert os.stat(f"{below}/link").st_nlink == 2
    os.symlink("0", f"{below}/symlink")
    assert os.readlink(f"{below}/symlink") == "0"
    os.setxattr(f"{below}/1", "user.step", b"%d" % step, os.XATTR_CREATE)
    os.removexattr(f"{below}/1", "user.step")
    os.rename(below, f"{below}.done")
    assert sorted(os.listdir(f"{below}.done")) == ["0", "1", "2", "3", "4", "link", "symlink"]
    try:
        os.mkdir(f"{below}.done")
    except FileExistsError:
        pass
    else:
        raise AssertionError("made twice")
    for name in os.listdir(f"{below}.done"):
        os.unlink(f"{below}.done/{name}")
    os.rmdir(f"{below}.done")
    try:
        os.rmdir(f"{below}.done")
    except FileNotFoundError:
        pass
    else:
        raise AssertionError("removed twice")


def without_a_name(place: str, step: int) -> None:
    """A file that is open and has no name any more."""
    path = f"{place}/unnamed"
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC)
    os.write(fd, b"x" * step)
    os.unlink(path)
    for _ in range(20):
        found = os.fstat(fd)
        assert (found.st_nlink, found.st_size) == (0, step), found
        os.fsync(fd)
    os.ftruncate(fd, 3)
    assert os.pread(fd, 10, 0) == b"xxx"
    os.fchmod(fd, 0o600)
    os.close(fd)


def main(place: str, number: int, seconds: float) -> None:
    dice = random.Random(number)
    place = f"{place}/writer-{number}"
    os.mkdir(place)
    end, step, slowest = time.monotonic() + seconds, 100, 0.0
    held, before = -1, b""
    while time.monotonic() < end:
        step += 1
        begun = time.monotonic()
        digest = save(place, step, dice)
        if held >= 0:  # the file that was replaced, through the descriptor from before
            assert hashlib.sha256(os.pread(held, os.fstat(held).st_size, 0)).digest() == before
            os.close(held)
        held, before = os.open(f"{place}/model.bin", os.O_RDONLY), digest
        assert read(f"{place}/model.bin") == digest
        assert os.listdir(place) == ["model.bin"]
        for _ in range(10):  # most of the time is to be spent in the server, where the kill hits
            names(place, step)
        without_a_name(place, step)
        slowest = max(slowest, time.monotonic() - begun)
    os.close(held)
    os.unlink(f"{place}/model.bin")
    os.rmdir(place)
    print(f"{step - 100} rounds, slowest {slowest:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
