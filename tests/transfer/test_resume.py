"""What was moved is not moved again: after a mover's death, the worker's, and the store's forgetting."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transfer_world import PART, FileJournal, stamp_of, until

PARTS = 12
SLOW = 6 * PART
"""Bytes a second: slow enough to be interrupted, the whole file takes 2 s."""


def ignore(count: int) -> None:
    pass


async def test_a_killed_mover_is_replaced_and_only_its_parts_go_again(make, remote, store, source, journal):
    path, progress = source(PARTS * PART), []
    async with make(bandwidth=SLOW) as transfers:
        upload = asyncio.create_task(
            transfers.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=progress.append)
        )
        await until(lambda: journal.parts_done >= 3)
        os.kill(transfers.mover_pids[0], signal.SIGKILL)
        await upload
        await until(lambda: transfers.mover_restarts == 1 and len(transfers.mover_pids) == 2)
    assert (store / "k").read_bytes() == path.read_bytes()
    assert journal.parts_done == PARTS
    assert sum(progress) == PARTS * PART
    assert transfers.health("ckpt").ok


async def test_an_upload_goes_on_in_another_process_with_the_same_journal(make, remote, store, source, journal):
    path, stamp = (file := source(PARTS * PART)), stamp_of(file)
    async with make(bandwidth=SLOW) as first:
        upload = asyncio.create_task(first.upload(remote, "k", str(path), stamp, journal_key="u", on_bytes=ignore))
        await until(lambda: journal.parts_done >= 4)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
    done, progress = journal.parts_done, []
    assert len(journal.known["u"].parts) == done
    async with make() as second:
        uploaded = await second.upload(remote, "k", str(path), stamp, journal_key="u", on_bytes=progress.append)
        assert uploaded.checksums == await second.checksum(str(path), stamp)
    assert journal.parts_done == PARTS
    assert progress[0] == done * PART
    assert sum(progress) == PARTS * PART
    assert (store / "k").read_bytes() == path.read_bytes()


async def test_parts_of_an_older_content_of_the_same_size_are_thrown_away(make, remote, store, source, journal):
    path = source(PARTS * PART)
    async with make(bandwidth=SLOW) as first:
        upload = asyncio.create_task(
            first.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=ignore)
        )
        await until(lambda: journal.parts_done >= 2)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
    path = source(PARTS * PART, seed=2)
    before = journal.parts_done
    async with make() as second:
        await second.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=ignore)
    assert journal.parts_done == before + PARTS
    assert (store / "k").read_bytes() == path.read_bytes()
    assert os.listdir(store / ".ckptd" / "tmp") == []


async def test_a_download_goes_on_with_the_parts_that_are_good(make, remote, source, tmp_path, journal):
    path, staged = source(PARTS * PART), tmp_path / "staged"
    async with make(bandwidth=SLOW) as first:
        sums = (await make_object(make, remote, path)).checksums
        download = asyncio.create_task(
            first.download(remote, "k", str(staged), checksums=sums, journal_key="d", on_bytes=ignore)
        )
        await until(lambda: len(journal.known.get("d").parts if "d" in journal.known else ()) >= 4)
        download.cancel()
        with pytest.raises(asyncio.CancelledError):
            await download
    done = journal.known["d"].parts
    with staged.open("r+b") as file:  # one of them was lost, as in a power cut
        file.seek((done[0].number - 1) * PART)
        file.write(b"lost")
    before, progress = journal.parts_done, []
    async with make() as second:
        await second.download(remote, "k", str(staged), checksums=sums, journal_key="d", on_bytes=progress.append)
    assert staged.read_bytes() == path.read_bytes()
    assert journal.parts_done - before == PARTS - len(done) + 1
    assert sum(progress) == PARTS * PART
    assert journal.known == {}


async def test_a_download_whose_staged_file_is_gone_begins_again(make, remote, source, tmp_path, journal):
    path, staged = source(PARTS * PART), tmp_path / "staged"
    sums = (await make_object(make, remote, path)).checksums
    async with make(bandwidth=SLOW) as first:
        download = asyncio.create_task(
            first.download(remote, "k", str(staged), checksums=sums, journal_key="d", on_bytes=ignore)
        )
        await until(lambda: "d" in journal.known and len(journal.known["d"].parts) >= 2)
        download.cancel()
        with pytest.raises(asyncio.CancelledError):
            await download
        staged.rename(tmp_path / "elsewhere")
    async with make() as second:
        await second.download(remote, "k", str(staged), checksums=sums, journal_key="d", on_bytes=ignore)
    assert staged.read_bytes() == path.read_bytes()


async def test_an_upload_the_store_has_forgotten_begins_again(make, remote, store, source, journal):
    path, progress = source(PARTS * PART), []
    async with make(bandwidth=SLOW) as transfers:
        upload = asyncio.create_task(
            transfers.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=progress.append)
        )
        await until(lambda: journal.parts_done >= 2)
        for left in (store / ".ckptd" / "tmp").iterdir():
            left.unlink()
        await upload
    assert (store / "k").read_bytes() == path.read_bytes()
    assert sum(progress) == PARTS * PART
    assert journal.known == {}


DAEMON = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from transfer_world import PART, FileJournal, stamp_of
from ckptd.transfer.transfers import Remote, Transfers

async def main(store, path, kept):
    journal = FileJournal(Path(kept))
    async with Transfers(parallel=4, part_size=PART, bandwidth=6 * PART, movers=2, journal=journal) as t:
        print(*t.mover_pids, flush=True)
        await t.upload(Remote("ckpt", store), "k", path, stamp_of(Path(path)), journal_key="u", on_bytes=lambda n: None)

asyncio.run(main(*sys.argv[2:]))
"""


async def test_a_killed_daemon_takes_its_movers_along_and_sends_no_finished_part_again(
    make, remote, store, source, tmp_path
):
    path, kept = source(PARTS * PART), tmp_path / "journal"
    here = str(Path(__file__).parent)
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, here, remote.url, str(path), str(kept)], stdout=subprocess.PIPE, text=True
    )
    try:
        movers = [int(pid) for pid in daemon.stdout.readline().split()]
        await until(lambda: kept.exists() and len(FileJournal(kept).known["u"].parts) >= 3)
    finally:
        daemon.kill()
        daemon.wait()
        daemon.stdout.close()
    await until(lambda: not any(alive(pid) for pid in movers))

    journal = FileJournal(kept)
    done = len(journal.known["u"].parts)
    async with make(journal=journal) as transfers:
        await transfers.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=ignore)
    assert journal.parts_done == PARTS - done
    assert (store / "k").read_bytes() == path.read_bytes()


async def make_object(make, remote, path):
    async with make() as transfers:
        return await transfers.upload(remote, "k", str(path), stamp_of(path), journal_key="made", on_bytes=ignore)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
