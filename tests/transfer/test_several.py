"""Many small files in one call to a mover."""

from __future__ import annotations

import shutil
from pathlib import Path

from transfer_world import content, stamp_of

from ckptd.transfer.transfers import Small


def small(folder: Path, number: int, size: int = 1000) -> Small:
    path = folder / f"{number}"
    path.write_bytes(content(size, seed=number))
    return Small(f"run/{number}", str(path), stamp_of(path))


async def test_each_is_stored_as_if_it_had_gone_by_itself(transfers, remote, store, tmp_path):
    files = [small(tmp_path, number, size=number) for number in range(20)]
    done = await transfers.upload_several(remote, files)
    for number, (file, uploaded) in enumerate(zip(files, done, strict=True)):
        assert (store / file.key).read_bytes() == content(number, seed=number)
        alone = await transfers.upload(remote, f"alone/{number}", file.path, file.stamp, journal_key="u")
        assert uploaded.checksums == alone.checksums
        assert (await transfers.head(remote, file.key)).etag == uploaded.etag
    assert transfers.report().queued_bytes == 0


async def test_one_that_changed_does_not_keep_the_others_from_going(transfers, remote, store, tmp_path):
    files = [small(tmp_path, number) for number in range(5)]
    (tmp_path / "2").write_bytes(b"anew")
    (tmp_path / "3").unlink()
    done = await transfers.upload_several(remote, files)
    assert [each is not None for each in done] == [True, True, False, False, True]
    assert sorted(path.name for path in (store / "run").iterdir()) == ["0", "1", "4"]


async def test_a_store_that_refuses_is_not_asked_again_and_again(transfers, remote, store, tmp_path):
    files = [small(tmp_path, number) for number in range(5)]
    assert await transfers.upload_several(remote, files[:1]) != [None]
    shutil.rmtree(store)
    assert await transfers.upload_several(remote, files) == [None] * 5
