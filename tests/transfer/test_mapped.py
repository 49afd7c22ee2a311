"""Checksums of files on huge pages: mapped, by a child that a truncation may kill."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from transfer_world import content, stamp_of

from ckptd.domain.errors import IntegrityError, SourceChanged
from ckptd.transfer.mapped import Reader, Truncated, worth_mapping
from ckptd.transfer.reading import checksum_of

MIB = 1 << 20
SIZE = 48 * MIB + 4711


@pytest.fixture
def huge(tmp_path: Path) -> Iterator[Path]:
    """A directory whose files lie on huge pages."""
    folder = tmp_path / "huge"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "huge=always,size=256m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs with huge=always can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def path(huge: Path) -> Path:
    path = huge / "file"
    path.write_bytes(content(SIZE))
    return path


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    number = os.open(path, os.O_RDWR)
    if not worth_mapping(number, SIZE):
        pytest.skip("this kernel does not tell of huge pages by st_blksize")
    yield number
    os.close(number)


@pytest.mark.parametrize(("offset", "length"), [(0, SIZE), (0, 1), (5 * MIB + 3, 33 * MIB), (SIZE - 1, 1)])
def test_a_mapped_checksum_is_the_one_of_a_reader(descriptor: int, offset: int, length: int) -> None:
    asked = [0]

    def check() -> None:
        asked[0] += 1

    read = checksum_of(descriptor, "file", offset, length, lambda: None)
    with Reader() as reader:
        assert reader.checksum(descriptor, offset, length, check) == read
    assert asked[0] >= length // (16 * MIB)


def test_a_file_that_is_shorter_already_is_truncated(descriptor: int) -> None:
    with Reader() as reader, pytest.raises(Truncated):
        reader.ask(descriptor, SIZE, MIB, 0)


def test_a_truncation_under_the_checksum_ends_the_child_alone(descriptor: int) -> None:
    with Reader() as reader:
        good = reader.ask(descriptor, 0, SIZE, 0)
        truncated_under(reader, descriptor)
        assert reader.ask(descriptor, 0, SIZE, 0) == good


def truncated_under(reader: Reader, descriptor: int) -> None:
    """Truncates the file again and again while the child reads it, until SIGBUS has ended one; restores it."""
    data, end, tries = content(SIZE), time.monotonic() + 60, 0
    while not reader.deaths:  # it has to happen while the child reads, which takes some ms
        assert time.monotonic() < end, f"no child died in {tries} tries"
        tries += 1
        truncation = threading.Timer(0.001 * (tries % 20), os.truncate, (descriptor, 4096))
        truncation.start()
        with suppress(Truncated):
            reader.ask(descriptor, 0, SIZE, 0)
        truncation.join()
        os.pwrite(descriptor, data, 0)


async def test_the_mover_says_what_is_wrong_and_lives_on(transfers, path: Path, descriptor: int) -> None:
    movers = transfers.mover_pids
    sums = await transfers.checksum(str(path), stamp_of(path))
    stamp = stamp_of(path)
    await transfers.verify_local(str(path), stamp, sums)
    times = os.stat(path)
    os.pwrite(descriptor, b"other", 40 * MIB)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(IntegrityError, match="part"):
        await transfers.verify_local(str(path), stamp, sums)
    os.truncate(path, 30 * MIB)
    with pytest.raises(SourceChanged):
        await transfers.verify_local(str(path), stamp, sums)
    assert transfers.mover_pids == movers
