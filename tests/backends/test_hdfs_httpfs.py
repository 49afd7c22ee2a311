"""HDFS through an HttpFS, plain and over TLS: the gateway of tests/servers before the real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme
from servers.certificates import make_certificate
from servers.hdfs_cluster import HdfsRemote
from servers.httpfs_gateway import Gateway, running

from backends.contract.sources import FIRST, MIB, SECOND, Memory, put, put_part, read
from backends.errors import BackendError, PreconditionFailed
from backends.hdfs import HdfsBackend

pytestmark = pytest.mark.hdfs


class Through:
    """A remote's folder behind a gateway."""

    def __init__(self, gateway: Gateway, remote: HdfsRemote) -> None:
        self.gateway, self.remote = gateway, remote
        secured = {"tls": "true", "ca_bundle": str(gateway.certificate.cert)} if gateway.certificate else {}
        self.options = {**remote.options, **secured}

    def open(self, **more: str) -> HdfsBackend:
        return HdfsBackend.from_url(f"hdfs://localhost:{self.gateway.port}{self.remote.path}", {**self.options, **more})


@pytest.fixture(params=["http", "https"])
def through(request: pytest.FixtureRequest, hdfs_remote: HdfsRemote, tmp_path: Path) -> Iterator[Through]:
    certificate = make_certificate(tmp_path, "DNS:localhost") if request.param == "https" else None
    with running(hdfs_remote.cluster, certificate) as gateway:
        yield Through(gateway, hdfs_remote)


@pytest.fixture
def store(through: Through) -> Iterator[HdfsBackend]:
    opened = through.open()
    yield opened
    opened.close()


def test_a_save_goes_through_and_comes_back(store: HdfsBackend, through: Through) -> None:
    store.probe()
    upload = store.begin("run/ö 1+&/big", 10 * MIB)
    parts = [
        put_part(store, "run/ö 1+&/big", upload, number, (number - 1) * 5 * MIB, data)
        for number, data in enumerate((FIRST, SECOND), start=1)
    ]
    info = store.finish("run/ö 1+&/big", upload, parts, crc64nvme(FIRST + SECOND))
    assert read(store, "run/ö 1+&/big", 10 * MIB, etag=info.etag) == FIRST + SECOND
    window = memoryview(bytearray(MIB))
    store.read("run/ö 1+&/big", 4 * MIB, window)
    assert bytes(window) == (FIRST + SECOND)[4 * MIB : 5 * MIB]
    assert {"CONCAT", "GETFILECHECKSUM", "OPEN", "CREATE"} <= {*through.gateway.asked}
    assert [found.key for found in store.list("")] == ["run/ö 1+&/big"]
    store.delete(["run/ö 1+&/big"])
    assert list(store.list("")) == []


def test_an_object_is_replaced_and_one_that_must_be_new_is_not(store: HdfsBackend) -> None:
    first = put(store, "run/m.json", b"{}")
    second = put(store, "run/m.json", b"{...}")
    assert first.etag != second.etag
    assert read(store, "run/m.json", 5) == b"{...}"
    with pytest.raises(PreconditionFailed):
        store.put("run/m.json", Memory(b"new"), crc64nvme(b"new"), if_absent=True)
    assert read(store, "run/m.json", 5) == b"{...}"


def test_a_wrong_http_path_is_named(through: Through) -> None:
    store = through.open(http_path="/gateway/default/webhdfs/v1")
    with pytest.raises(BackendError) as refused:
        store.probe()
    assert "http_path" in refused.value.hint
    store.close()
