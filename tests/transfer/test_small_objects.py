"""Manifests and the like: get, put, list, head, delete, probe."""

from __future__ import annotations

import os

import pytest

from ckptd.domain.errors import RemoteError
from ckptd.transfer.transfers import Remote


async def test_what_is_put_is_listed_found_got_and_deleted(transfers, remote):
    await transfers.probe(remote)
    data = os.urandom(3 << 20)
    stat = await transfers.put(remote, ".ckptd/manifests/run/1/node.json", data)
    assert stat.size == len(data)
    assert await transfers.get(remote, ".ckptd/manifests/run/1/node.json") == data
    found = await transfers.head(remote, ".ckptd/manifests/run/1/node.json")
    assert found is not None
    assert (found.key, found.size) == (stat.key, stat.size)
    assert [each.key for each in await transfers.list(remote, ".ckptd/manifests/")] == [stat.key]
    await transfers.delete(remote, [stat.key, "absent"])
    assert await transfers.head(remote, stat.key) is None
    assert await transfers.get(remote, stat.key) is None


async def test_an_empty_object_is_not_a_missing_one(transfers, remote):
    await transfers.put(remote, "empty", b"")
    assert await transfers.get(remote, "empty") == b""


async def test_if_absent_is_decided_by_the_store(transfers, remote):
    await transfers.put(remote, "one", b"mine", if_absent=True)
    with pytest.raises(RemoteError) as caught:
        await transfers.put(remote, "one", b"theirs", if_absent=True)
    assert caught.value.backend_code == "precondition"
    assert await transfers.get(remote, "one") == b"mine"


async def test_a_long_listing_comes_whole_and_in_order(transfers, remote, store):
    (store / "run").mkdir()
    for number in range(2345):
        (store / "run" / f"{number:05}").touch()
    listed = await transfers.list(remote, "run/")
    assert [each.key for each in listed] == [f"run/{number:05}" for number in range(2345)]
    await transfers.delete(remote, [each.key for each in listed])
    assert await transfers.list(remote, "") == []


async def test_a_missing_store_is_said_at_once_and_remembered_until_it_is_back(transfers, tmp_path):
    gone = Remote("gone", f"file://{tmp_path}/not/there")
    with pytest.raises(RemoteError, match="gone") as caught:
        await transfers.probe(gone)
    assert caught.value.backend_code == "bucket-missing"
    assert caught.value.hint
    health = transfers.health("gone")
    assert (health.ok, health.needs_somebody) == (False, True)
    assert health.since is not None
    (tmp_path / "not" / "there").mkdir(parents=True)
    await transfers.probe(gone)
    assert transfers.health("gone").ok
