"""A cancelled call stops at the next chunk and gives its slot back."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from transfer_world import PART, stamp_of, until


def ignore(count: int) -> None:
    pass


async def test_a_cancelled_upload_gives_its_slot_to_the_next(make, remote, store, source, journal):
    slow, quick = source(64 * PART, name="slow"), source(10, name="quick")
    async with make(parallel=1, movers=1, bandwidth=PART, part_size=64 * PART) as transfers:
        upload = asyncio.create_task(
            transfers.upload(remote, "slow", str(slow), stamp_of(slow), journal_key="u", on_bytes=ignore)
        )
        await until(lambda: any((store / ".ckptd" / "tmp").glob("put-*")) if (store / ".ckptd").exists() else False)
        (begun,) = (store / ".ckptd" / "tmp").glob("put-*")
        waiting = asyncio.create_task(
            transfers.upload(remote, "quick", str(quick), stamp_of(quick), journal_key="q", on_bytes=ignore)
        )
        await asyncio.sleep(0.05)
        assert not waiting.done()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        # Its end was waited for: the store has heard the last of it.
        assert not begun.exists()
        await waiting
    assert not (store / "slow").exists()
    assert (store / "quick").read_bytes() == quick.read_bytes()


async def test_a_call_cancelled_while_it_waits_for_a_slot_takes_none_with_it(make, remote, store, source):
    path = source(3 * PART)
    async with make(parallel=1, movers=1, bandwidth=6 * PART) as transfers:
        first, second, third = (
            asyncio.create_task(
                transfers.upload(remote, key, str(path), stamp_of(path), journal_key=key, on_bytes=ignore)
            )
            for key in ("one", "two", "three")
        )
        await asyncio.sleep(0.02)
        second.cancel()
        await asyncio.gather(first, third)
    assert sorted(each.name for each in store.iterdir() if each.name != ".ckptd") == ["one", "three"]


async def test_a_cancelled_copy_leaves_no_target(make, source, tmp_path):
    path = source(64 * PART)
    async with make() as transfers:
        copy = asyncio.create_task(transfers.copy(str(path), stamp_of(path), str(tmp_path / "target"), expect=None))
        await until(lambda: (tmp_path / "target").exists() or copy.done())
        copy.cancel()
        try:
            await copy
        except asyncio.CancelledError:
            assert not (tmp_path / "target").exists()


async def test_leaving_ends_all_movers(make, remote):
    from test_resume import alive

    async with make() as transfers:
        pids = transfers.mover_pids
        assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


async def test_a_listener_that_raises_ends_its_own_transfer_only(make, remote, store, source):
    path = source(6 * PART)

    def stumble(count: int) -> None:
        raise LookupError

    async with make() as transfers:
        movers = transfers.mover_pids
        with pytest.raises(LookupError):
            await transfers.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=stumble)
        await transfers.upload(remote, "l", str(path), stamp_of(path), journal_key="v", on_bytes=ignore)
        assert transfers.mover_pids == movers
    assert (store / "l").read_bytes() == path.read_bytes()


async def test_a_mover_that_does_not_let_go_is_killed(make, remote, store, source, monkeypatch):
    from ckptd.transfer import process

    monkeypatch.setattr(process, "_LET_GO_S", 0.1)
    path = source(8 * PART)
    sent = []
    async with make(movers=1, bandwidth=PART) as transfers:
        upload = asyncio.create_task(
            transfers.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=sent.append)
        )
        # Parts are on their way: seconds of them, at this rate. The answer to an earlier call may already be waiting
        # in the socket, and nobody would wait for the mover.
        await until(lambda: sum(sent) > 0)
        os.kill(transfers.mover_pids[0], signal.SIGSTOP)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        await until(lambda: transfers.mover_restarts == 1)
        await transfers.put(remote, "k", b"newer")
    assert (store / "k").read_bytes() == b"newer"
