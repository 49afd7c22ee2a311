"""What goes up comes back, whatever its size, and both sides agree on the checksums."""

from __future__ import annotations

import os

import pytest
from awscrt.checksums import crc64nvme
from transfer_world import PART, stamp_of

from ckptd.domain.errors import SourceChanged


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART, 7 * PART + 12345])
async def test_a_file_comes_back_as_it_went(transfers, remote, store, source, tmp_path, journal, size):
    path, progress = source(size), []
    key, stamp = "run-1/a b.pt", stamp_of(path)
    uploaded = await transfers.upload(remote, key, str(path), stamp, journal_key="u", on_bytes=progress.append)

    assert (store / "run-1" / "a b.pt").read_bytes() == path.read_bytes()
    sums = uploaded.checksums
    assert (sums.size, sums.part_size, len(sums.parts)) == (size, PART, -(-size // PART))
    assert sums.whole == crc64nvme(path.read_bytes())
    assert sums == await transfers.checksum(str(path), stamp)
    assert sum(progress) == size

    staged, progress = tmp_path / "staged", []
    await transfers.download(remote, key, str(staged), checksums=sums, journal_key="d", on_bytes=progress.append)
    assert staged.read_bytes() == path.read_bytes()
    assert sum(progress) == size
    await transfers.verify_remote(remote, key, sums, progress.append)
    assert journal.known == {}
    assert transfers.report().queued_bytes == 0


async def test_names_that_are_not_utf8_and_hold_newlines_go_up(transfers, remote, tmp_path):
    path = tmp_path / "bad\udcff\nname"
    path.write_bytes(b"x")
    uploaded = await transfers.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=lambda n: None)
    assert uploaded.checksums.whole == crc64nvme(b"x")


async def test_a_symlink_a_fifo_and_a_missing_file_are_no_source(transfers, remote, source, tmp_path):
    path = source(10)
    stamp = stamp_of(path)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "missing"):
        with pytest.raises(SourceChanged):
            await transfers.upload(remote, "k", str(tmp_path / name), stamp, journal_key="u", on_bytes=lambda n: None)
