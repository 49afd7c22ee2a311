"""A real S3 server with the wire broken on purpose: what heals by itself is retried, what does not is said."""

from __future__ import annotations

import asyncio

import pytest
from servers.fault_proxy import Fault
from transfer_world import PART, content, stamp_of, until

from ckptd.domain.errors import IntegrityError, RemoteError
from ckptd.transfer.transfers import Remote

pytestmark = pytest.mark.s3

S3_PART = 5 * PART
"""S3 takes no smaller ones."""
SIZE = 4 * S3_PART + 100


def ignore(count: int) -> None:
    pass


@pytest.fixture
def s3(s3_remote):
    return Remote("s3", s3_remote.url, tuple(s3_remote.options.items()))


@pytest.fixture
def broken(s3_proxied):
    """The remote behind the proxy, and the proxy. Small time-outs: a stall is noticed within a second."""
    options = s3_proxied.options | {"read_timeout": "1", "connect_timeout": "2"}
    return Remote("s3", s3_proxied.url, tuple(options.items())), s3_proxied.proxy


async def send(transfers, remote, path, progress=ignore):
    return await transfers.upload(remote, "k", str(path), stamp_of(path), journal_key="u", on_bytes=progress)


async def test_files_of_all_sizes_go_up_and_come_back(make, s3, source, tmp_path):
    async with make() as transfers:
        await transfers.probe(s3)
        for size in (0, 1, S3_PART, S3_PART + 1, SIZE):
            path, staged = source(size), tmp_path / f"staged-{size}"
            sums = (await send(transfers, s3, path)).checksums
            await transfers.download(s3, "k", str(staged), checksums=sums, journal_key="d", on_bytes=ignore)
            assert staged.read_bytes() == path.read_bytes()
            await transfers.verify_remote(s3, "k", sums, ignore)
            assert sums.part_size == S3_PART
        head = await transfers.head(s3, "k")
        assert head is not None
        assert head.crc64nvme == sums.whole


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", r"partNumber=2", answer=500),
        Fault("PUT", r"partNumber=2", answer=503, code="SlowDown", retry_after=0),
        Fault("PUT", r"partNumber=2", reset_after=100_000),
        Fault("PUT", r"partNumber=2", corrupt_at=1_000_000),
        Fault("PUT", r"partNumber=2", stall_after=2_000_000, stall=3),
        Fault("PUT", r"partNumber=2", reset_answer_after=0),
        Fault("POST", r"uploadId", reset_answer_after=0),
    ],
    ids=["500", "slow down", "reset", "flipped bit", "stall", "lost answer", "lost finish"],
)
async def test_an_upload_survives_what_a_retry_heals(make, broken, source, fault, journal):
    remote, proxy = broken
    path, progress = source(SIZE), []
    async with make() as transfers:
        await transfers.head(remote, "warm")
        proxy.inject(fault)
        uploaded = await send(transfers, remote, path, progress.append)
        assert proxy.unused == 0
        assert sum(progress) == SIZE
        await transfers.verify_remote(remote, "k", uploaded.checksums, ignore)
        assert transfers.health("s3").ok
    assert journal.known == {}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", r"/k$", answer=503, code="SlowDown"),
        Fault("GET", r"/k$", reset_answer_after=100_000),
        Fault("GET", r"/k$", cut_answer_after=100_000),
        Fault("GET", r"/k$", corrupt_answer_at=77),
        Fault("GET", r"/k$", stall_answer_after=100_000, stall=3),
    ],
    ids=["slow down", "reset", "cut", "flipped bit", "stall"],
)
async def test_a_download_survives_what_a_retry_heals(make, broken, source, tmp_path, fault):
    remote, proxy = broken
    path, progress = source(SIZE), []
    async with make() as transfers:
        sums = (await send(transfers, remote, path)).checksums
        proxy.inject(fault)
        await transfers.download(
            remote, "k", str(tmp_path / "staged"), checksums=sums, journal_key="d", on_bytes=progress.append
        )
    assert (tmp_path / "staged").read_bytes() == path.read_bytes()
    assert sum(progress) == SIZE


async def test_bytes_that_keep_coming_wrong_are_an_integrity_error(make, broken, source, tmp_path):
    remote, proxy = broken
    path = source(SIZE)
    async with make() as transfers:
        sums = (await send(transfers, remote, path)).checksums
        proxy.inject(Fault("GET", r"/k$", corrupt_answer_at=77), times=100)
        with pytest.raises(IntegrityError, match=r"key 'k'.*part"):
            await transfers.download(
                remote, "k", str(tmp_path / "staged"), checksums=sums, journal_key="d", on_bytes=ignore
            )
        assert transfers.health("s3").ok
    assert not (tmp_path / "staged").exists()


async def test_a_store_that_is_down_is_said_to_be_and_the_upload_goes_on_when_it_is_up(make, broken, source, journal):
    remote, proxy = broken
    path = source(SIZE)
    async with make(parallel=1) as transfers:
        await transfers.head(remote, "warm")
        proxy.inject(Fault("PUT", r"partNumber=[345]", answer=503), times=1000)
        with pytest.raises(RemoteError) as caught:
            await send(transfers, remote, path)
        assert caught.value.retryable
        health = transfers.health("s3")
        assert (health.ok, health.needs_somebody) == (False, False)
        assert health.since is not None
        done = len(journal.known["u"].parts)
        assert done == 2
        proxy.heal()
        progress: list[int] = []
        await send(transfers, remote, path, progress.append)
        assert progress[0] == done * S3_PART
        assert transfers.health("s3").ok
    assert journal.parts_done == 5


async def test_a_store_that_cannot_be_reached_at_all_is_unavailable(make, s3_remote, source):
    remote = Remote("s3", "s3://bucket/x", (("endpoint_url", "http://127.0.0.1:9"), ("connect_timeout", "1")))
    async with make() as transfers:
        with pytest.raises(RemoteError) as caught:
            await transfers.probe(remote)
        assert (caught.value.backend_code, caught.value.retryable) == ("unavailable", True)
        with pytest.raises(RemoteError) as caught:
            await send(transfers, remote, source(10))
        assert caught.value.retryable
        assert transfers.health("s3").since is not None


async def test_a_part_that_the_store_throttles_lets_others_pass(make, broken, source):
    remote, proxy = broken
    slept: list[float] = []
    woken = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await woken.wait()

    large, small = source(100, name="throttled"), source(50, seed=3, name="small")
    async with make(parallel=1, movers=1, sleep=sleep) as transfers:
        await transfers.head(remote, "warm")
        proxy.inject(Fault("PUT", r"throttled", answer=503, code="SlowDown", retry_after=7))
        first = asyncio.create_task(
            transfers.upload(remote, "throttled", str(large), stamp_of(large), journal_key="a", on_bytes=ignore)
        )
        await until(lambda: len(slept) == 1)
        await transfers.upload(remote, "small", str(small), stamp_of(small), journal_key="b", on_bytes=ignore)
        assert not first.done()
        woken.set()
        await first
        assert slept[0] >= 7
        assert await transfers.get(remote, "throttled") == content(100)


async def test_an_if_absent_whose_answer_got_lost_is_recognised_as_our_own(make, broken):
    remote, proxy = broken
    async with make() as transfers:
        await transfers.probe(remote)
        proxy.inject(Fault("PUT", r"manifest", reset_answer_after=0))
        stat = await transfers.put(remote, "manifest", b"ours", if_absent=True)
        assert stat.size == 4
        with pytest.raises(RemoteError):
            await transfers.put(remote, "manifest", b"other", if_absent=True)
