"""Tier to tier: the same bytes, the same holes, proven."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from transfer_world import PART, content, stamp_of, until

from ckptd.domain.errors import CkptdError, IntegrityError, SourceChanged


@pytest.fixture
def memory():
    """A folder in /dev/shm, beside tmp_path on the disk: two file systems as the two tiers are."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="ckptd-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("size", [0, 1, PART, 20 * PART + 3])
async def test_a_copy_between_file_systems_and_back_is_the_same(transfers, memory, tmp_path, size):
    first, second, third = memory / "a", tmp_path / "b", memory / "c"
    first.write_bytes(content(size))
    progress: list[int] = []
    sums = await transfers.copy(str(first), stamp_of(first), str(second), expect=None, on_bytes=progress.append)
    assert second.read_bytes() == first.read_bytes()
    assert sum(progress) == size
    assert sums == await transfers.checksum(str(first), stamp_of(first))
    again = await transfers.copy(str(second), stamp_of(second), str(third), expect=sums)
    assert again == sums
    assert third.read_bytes() == first.read_bytes()


async def test_holes_stay_holes(transfers, memory, tmp_path):
    sparse = memory / "sparse"
    with sparse.open("wb") as file:
        file.truncate(64 * PART)
        file.seek(3 * PART)
        file.write(b"island" * 1000)
        file.seek(50 * PART + 100)
        file.write(b"more")
    await transfers.copy(str(sparse), stamp_of(sparse), str(tmp_path / "copy"), expect=None)
    copied = os.stat(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == sparse.read_bytes()
    assert copied.st_blocks * 512 < PART


async def test_a_source_that_is_not_what_it_should_be_is_not_passed_on(transfers, source, tmp_path):
    path = source(3 * PART)
    sums = await transfers.checksum(str(path), stamp_of(path))
    wrong = replace(sums, parts=(sums.parts[0], 1, sums.parts[2]))
    with pytest.raises(IntegrityError, match="source"):
        await transfers.copy(str(path), stamp_of(path), str(tmp_path / "target"), expect=wrong)
    assert not (tmp_path / "target").exists()


async def test_a_copy_outlives_its_mover(make, source, tmp_path):
    path, target = source(48 * PART), tmp_path / "target"
    async with make(movers=1) as transfers:
        copy = asyncio.create_task(transfers.copy(str(path), stamp_of(path), str(target), expect=None))
        await until(lambda: target.exists() or copy.done())
        os.kill(transfers.mover_pids[0], signal.SIGKILL)
        await copy
    assert target.read_bytes() == path.read_bytes()


async def test_a_changed_source_and_an_existing_target_are_refused(transfers, source, tmp_path):
    path, target = source(PART), tmp_path / "target"
    with pytest.raises(SourceChanged):
        await transfers.copy(str(path), replace(stamp_of(path), mtime_ns=1), str(target), expect=None)
    assert not target.exists()
    target.write_bytes(b"somebody's")
    with pytest.raises(CkptdError, match="exists"):
        await transfers.copy(str(path), stamp_of(path), str(target), expect=None)
    assert target.read_bytes() == b"somebody's"
