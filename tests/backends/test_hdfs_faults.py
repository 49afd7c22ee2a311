"""HDFS that goes wrong, for real: DataNodes and NameNodes killed and switched over, quotas, safe mode, names nobody knows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from awscrt.checksums import crc64nvme
from servers.hdfs_cluster import HdfsRemote
from servers.hdfs_own import MISNAMED, OwnCluster

from backends.contract.sources import FIRST, MIB, SECOND, Memory, put, put_part, read
from backends.errors import BackendError, NoSpace, Unavailable
from backends.hdfs import HdfsBackend

pytestmark = [pytest.mark.hdfs, pytest.mark.timeout(240), pytest.mark.xdist_group("test_hdfs_own")]
WAYS = pytest.mark.parametrize("way", ["native", "webhdfs"])
QUICK = {"connect_timeout": "5", "read_timeout": "15"}
Answer = TypeVar("Answer")


def opened(remote: HdfsRemote, way: str, **more: str) -> HdfsBackend:
    return HdfsBackend.from_url(remote.url, {**remote.options, **QUICK, "data": way, **more})


def repeated(call: Callable[[], Answer], seconds: float = 60) -> Answer:
    """As the engine does with what is worth asking again; anything else comes out."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except BackendError as error:
            if not error.retryable or time.monotonic() > end:
                raise
        time.sleep(0.2)


class Slow(Memory):
    """Sent slowly enough that something can happen meanwhile."""

    begun: threading.Event

    def read(self, size: int = -1, /) -> bytes | memoryview:
        self.begun.set()
        time.sleep(0.1)
        return super().read(size)


@WAYS
def test_a_datanode_killed_during_a_write_costs_a_repetition_at_most(hdfs_own: OwnCluster, way: str) -> None:
    with hdfs_own.fresh_remote() as remote:
        store = opened(remote, way)
        data = os.urandom(16 * MIB)
        upload = store.begin("a", len(data))
        begun = threading.Event()

        def send() -> object:
            source = Slow(data)
            source.begun = begun
            return store.put_part("a", upload, 1, 0, source, crc64nvme(data))

        killer = threading.Thread(target=lambda: (begun.wait(), hdfs_own.kill("datanode0")))
        killer.start()
        part = repeated(send)
        killer.join()
        info = repeated(lambda: store.finish("a", upload, [part], crc64nvme(data)))  # type: ignore[list-item]
        assert repeated(lambda: read(store, "a", len(data), etag=info.etag)) == data


@WAYS
def test_a_datanode_killed_during_a_read_costs_a_repetition_at_most(hdfs_own: OwnCluster, way: str) -> None:
    with hdfs_own.fresh_remote() as remote:
        store = opened(remote, way)
        data = os.urandom(32 * MIB)
        put(store, "a", data)
        for daemon in ("datanode0", "datanode1"):
            came: list[int] = []

            def arrived(count: int, daemon: str = daemon, came: list[int] = came) -> None:
                if not came:
                    hdfs_own.kill(daemon)
                came.append(count)

            target = bytearray(len(data))
            repeated(lambda target=target, arrived=arrived: store.read("a", 0, memoryview(target), on_bytes=arrived))
            assert target == data
            hdfs_own.start(daemon)


@WAYS
def test_a_namenode_that_restarts_is_waited_for(hdfs_own: OwnCluster, way: str) -> None:
    with hdfs_own.fresh_remote() as remote:
        store = opened(remote, way)
        upload = store.begin("a", 10 * MIB)
        parts = [put_part(store, "a", upload, 1, 0, FIRST)]
        hdfs_own.kill("namenode0")
        with pytest.raises(Unavailable) as refused:
            put_part(store, "a", upload, 2, 5 * MIB, SECOND)
        assert "dfs.namenode.http-address" in refused.value.hint
        hdfs_own.start("namenode0")
        parts.append(repeated(lambda: put_part(store, "a", upload, 2, 5 * MIB, SECOND)))
        repeated(lambda: store.finish("a", upload, parts, crc64nvme(FIRST + SECOND)))
        assert repeated(lambda: read(store, "a", 10 * MIB)) == FIRST + SECOND


@WAYS
def test_safe_mode_is_named_and_waited_for(hdfs_own: OwnCluster, way: str) -> None:
    with hdfs_own.fresh_remote() as remote:
        store = opened(remote, way)
        put(store, "a", b"before")
        hdfs_own.safe_mode(on=True)
        with pytest.raises(Unavailable, match="safe mode") as refused:
            put(store, "a", b"during")
        assert "safemode leave" in refused.value.hint
        assert read(store, "a", 6) == b"before"
        hdfs_own.safe_mode(on=False)
        repeated(lambda: put(store, "a", b"after!"))
        assert read(store, "a", 6) == b"after!"


@WAYS
def test_a_quota_of_space_is_no_room(hdfs_own: OwnCluster, way: str) -> None:
    with hdfs_own.fresh_remote() as remote:
        store = opened(remote, way)
        hdfs_own.space_quota(remote.path, 12 * MIB)  # two copies of 5 MiB fit once
        put(store, "a", FIRST)
        with pytest.raises(NoSpace, match="quota") as refused:
            put(store, "b", SECOND)
        assert "keep_remote" in refused.value.hint
        assert store.head("b") is None
        assert read(store, "a", len(FIRST)) == FIRST


@WAYS
def test_a_quota_of_names_is_no_room(hdfs_own: OwnCluster, way: str) -> None:
    with hdfs_own.fresh_remote() as remote:
        store = opened(remote, way)
        hdfs_own.name_quota(remote.path, 4)  # itself, .ckptd, .ckptd/tmp, one file
        put(store, "a", b"1")
        with pytest.raises(NoSpace, match="quota"):
            put(store, "b", b"2")


@WAYS
def test_the_other_namenode_is_asked_after_a_failover(hdfs_ha: OwnCluster, way: str) -> None:
    both = ",".join(f"127.0.0.1:{ports.http}" for ports in hdfs_ha.plan.namenodes)
    with hdfs_ha.fresh_remote() as remote:
        store = HdfsBackend.from_url(f"hdfs://{both}{remote.path}", {**remote.options, **QUICK, "data": way})
        upload = store.begin("a", 10 * MIB)
        parts = [put_part(store, "a", upload, 1, 0, FIRST)]
        hdfs_ha.activate(1)
        parts.append(repeated(lambda: put_part(store, "a", upload, 2, 5 * MIB, SECOND)))
        hdfs_ha.kill("namenode0")  # and now it is not even in standby
        info = repeated(lambda: store.finish("a", upload, parts, crc64nvme(FIRST + SECOND)))
        assert repeated(lambda: read(store, "a", 10 * MIB, etag=info.etag)) == FIRST + SECOND


def test_only_standby_namenodes_are_named_each(hdfs_ha: OwnCluster) -> None:
    standby = hdfs_ha.plan.namenodes[1].http
    with hdfs_ha.fresh_remote() as remote:
        url = f"hdfs://127.0.0.1:{standby},127.0.0.1:{hdfs_ha.plan.namenodes[1].rpc}{remote.path}"
        with pytest.raises(BackendError) as refused:
            HdfsBackend.from_url(url, {**remote.options, **QUICK}).probe()
        assert refused.value.hint


def test_a_datanode_whose_name_does_not_resolve_is_named_with_the_setting(hdfs_misnamed: OwnCluster) -> None:
    with hdfs_misnamed.fresh_remote() as remote:
        store = opened(remote, "webhdfs")
        with pytest.raises(Unavailable, match=MISNAMED) as refused:
            store.probe()
        assert "dfs.datanode.hostname" in refused.value.hint
