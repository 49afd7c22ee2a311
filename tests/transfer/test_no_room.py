"""A tier that is full, for real: a tmpfs of a few pages."""

from __future__ import annotations

import os
import subprocess

import pytest
from transfer_world import PART, stamp_of

from ckptd.domain.errors import NoRoom


def ignore(count: int) -> None:
    pass


@pytest.fixture
def small_tier(tmp_path):
    """2 MiB."""
    folder = tmp_path / "tier"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("size", [PART * 5, 3 * PART // 2])
async def test_a_download_that_does_not_fit_is_refused_before_the_first_byte(
    make, remote, source, small_tier, journal, size
):
    path, progress = source(size), []
    (small_tier / "other").write_bytes(bytes(PART))
    async with make(part_size=2 * PART) as transfers:
        sums = (
            await transfers.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=ignore)
        ).checksums
        with pytest.raises(NoRoom, match="staged"):
            await transfers.download(
                remote, "k", str(small_tier / "staged"), checksums=sums, journal_key="d", on_bytes=progress.append
            )
    assert progress == []
    assert os.listdir(small_tier) == ["other"]
    assert journal.known == {}


async def test_a_copy_that_does_not_fit_leaves_nothing(transfers, source, small_tier):
    path = source(5 * PART)
    with pytest.raises(NoRoom):
        await transfers.copy(str(path), stamp_of(path), str(small_tier / "target"), expect=None)
    assert os.listdir(small_tier) == []
