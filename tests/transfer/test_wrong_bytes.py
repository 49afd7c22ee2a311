"""Bytes that are not the ones that were meant never pass for good ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transfer_world import PART, stamp_of

from ckptd.domain.errors import IntegrityError, RemoteError


def ignore(count: int) -> None:
    pass


async def sums_of_upload(transfers, remote, key, path):
    uploaded = await transfers.upload(remote, key, str(path), stamp_of(path), journal_key="u", on_bytes=ignore)
    return uploaded.checksums


@pytest.fixture
async def uploaded(transfers, remote, source):
    path = source(3 * PART + 5)
    return (
        await transfers.upload(remote, "run/x.pt", str(path), stamp_of(path), journal_key="u", on_bytes=ignore)
    ).checksums


def flip(path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


async def test_a_flipped_bit_in_the_store_is_named_by_key_and_part(
    transfers, remote, store, uploaded, tmp_path, journal
):
    flip(store / "run" / "x.pt", 2 * PART + 77)
    staged, progress = tmp_path / "staged", []
    with pytest.raises(IntegrityError, match=r"run/x\.pt.*part 3"):
        await transfers.download(
            remote, "run/x.pt", str(staged), checksums=uploaded, journal_key="d", on_bytes=progress.append
        )
    assert not staged.exists()
    assert journal.known == {}
    assert min(progress) < 0
    with pytest.raises(IntegrityError, match=r"run/x\.pt.*part 3"):
        await transfers.verify_remote(remote, "run/x.pt", uploaded, ignore)
    assert transfers.health("ckpt").ok


async def test_a_flipped_bit_in_a_file_of_one_part_leaves_nothing_staged(transfers, remote, store, source, tmp_path):
    path = source(100)
    sums = (
        await transfers.upload(remote, "small", str(path), stamp_of(path), journal_key="u", on_bytes=ignore)
    ).checksums
    flip(store / "small", 50)
    with pytest.raises(IntegrityError):
        await transfers.download(
            remote, "small", str(tmp_path / "staged"), checksums=sums, journal_key="d", on_bytes=ignore
        )
    assert not (tmp_path / "staged").exists()


async def test_an_object_that_is_gone_or_longer_fails_verification(transfers, remote, store, uploaded):
    with (store / "run" / "x.pt").open("ab") as file:
        file.write(b"!")
    with pytest.raises(IntegrityError, match="bytes instead of"):
        await transfers.verify_remote(remote, "run/x.pt", uploaded, ignore)
    (store / "run" / "x.pt").unlink()
    with pytest.raises(IntegrityError, match="gone"):
        await transfers.verify_remote(remote, "run/x.pt", uploaded, ignore)


async def test_downloading_what_is_not_there_says_so_and_leaves_nothing(transfers, remote, uploaded, tmp_path):
    for sums in (uploaded, replace(uploaded, size=0, parts=(), whole=0)):
        with pytest.raises(RemoteError) as caught:
            await transfers.download(
                remote, "missing", str(tmp_path / "staged"), checksums=sums, journal_key="d", on_bytes=ignore
            )
        assert caught.value.backend_code == "not-found"
        assert not caught.value.retryable
        assert not (tmp_path / "staged").exists()


async def test_checksums_that_do_not_add_up_are_refused(transfers, remote, uploaded, tmp_path):
    with pytest.raises(IntegrityError, match="add up"):
        await transfers.download(
            remote, "run/x.pt", str(tmp_path / "staged"), checksums=replace(uploaded, whole=1), journal_key="d",
            on_bytes=ignore,
        )  # fmt: skip
    assert not (tmp_path / "staged").exists()
