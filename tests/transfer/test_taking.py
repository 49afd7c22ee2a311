"""Objects of which nobody has said a checksum: fetched in one version, the checksum taken on the way."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest
from transfer_world import PART, stamp_of, until

from ckptd.domain.errors import IntegrityError


@pytest.mark.parametrize("size", [0, 1, PART, 5 * PART + 1])
async def test_what_is_taken_is_the_object_and_its_checksum(transfers, remote, store, source, tmp_path, size):
    (store / "k").write_bytes(source(size).read_bytes())
    stat = await transfers.head(remote, "k")
    staged, parts = tmp_path / "staged", []
    sums = await transfers.take(remote, stat, str(staged), on_part=lambda *part: parts.append(part))
    assert staged.read_bytes() == (store / "k").read_bytes()
    assert sums == await transfers.checksum(str(staged), stamp_of(staged))
    assert sum(length for _, length in parts) == size


async def test_parts_of_two_versions_are_never_joined(make, remote, store, source, tmp_path):
    (store / "k").write_bytes(source(12 * PART).read_bytes())
    staged, parts = tmp_path / "staged", []
    async with make(bandwidth=6 * PART) as transfers:
        stat = await transfers.head(remote, "k")
        taking = asyncio.create_task(
            transfers.take(remote, stat, str(staged), on_part=lambda *part: parts.append(part))
        )
        await until(lambda: len(parts) >= 2)
        (store / "new").write_bytes(source(12 * PART, seed=2).read_bytes())
        os.replace(store / "new", store / "k")
        with pytest.raises(IntegrityError):
            await taking
        assert not staged.exists()
        assert transfers.health("ckpt").ok


async def test_what_the_store_says_of_it_is_compared(transfers, remote, store, source, tmp_path):
    (store / "k").write_bytes(source(3 * PART).read_bytes())
    stat = await transfers.head(remote, "k")
    good = await transfers.take(remote, stat, str(tmp_path / "good"))
    await transfers.take(remote, replace(stat, crc64nvme=good.whole), str(tmp_path / "same"))
    with pytest.raises(IntegrityError, match="the store says"):
        await transfers.take(remote, replace(stat, crc64nvme=good.whole ^ 1), str(tmp_path / "bad"))
    assert not (tmp_path / "bad").exists()


async def test_a_listing_comes_in_pages(transfers, remote, store):
    for number in range(2500):
        (store / f"{number:05}").touch()
    sizes = [len(page) async for page in transfers.pages(remote, "")]
    assert len(sizes) == 3
    assert sum(sizes) == len(await transfers.list(remote, "")) == 2500
