"""HDFS with Kerberos and TLS: a real KDC, a real NameNode and DataNode that ask for tickets, tokens and trust."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from awscrt.checksums import crc64nvme
from servers.certificates import make_certificate
from servers.hdfs_cluster import HdfsRemote
from servers.hdfs_secured import SecuredCluster

from backends.contract.sources import FIRST, MIB, SECOND, put, put_part, read
from backends.errors import BackendError, BadConfiguration, CredentialsRefused
from backends.hdfs import HdfsBackend

pytestmark = [pytest.mark.kerberos, pytest.mark.xdist_group("test_hdfs_secured")]

TICKET = {"auth": "kerberos"}


@pytest.fixture
def signed_in(hdfs_secured: SecuredCluster, monkeypatch: pytest.MonkeyPatch) -> SecuredCluster:
    monkeypatch.setenv("KRB5CCNAME", hdfs_secured.ticket())
    return hdfs_secured


def opened(remote: HdfsRemote, **more: str) -> HdfsBackend:
    return HdfsBackend.from_url(remote.url, {**remote.options, **more})


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every store that the test opens."""
    stores: list[HdfsBackend] = []
    made = HdfsBackend.__init__

    def remembered(self: HdfsBackend, *arguments: Any) -> None:
        stores.append(self)
        made(self, *arguments)

    monkeypatch.setattr(HdfsBackend, "__init__", remembered)
    yield
    for store in stores:
        store.close()


def in_two_parts(store: HdfsBackend, between: Callable[[], object] = lambda: None) -> None:
    upload = store.begin("run/big", 10 * MIB)
    parts = [put_part(store, "run/big", upload, 1, 0, FIRST)]
    between()
    parts.append(put_part(store, "run/big", upload, 2, 5 * MIB, SECOND))
    info = store.finish("run/big", upload, parts, crc64nvme(FIRST + SECOND))
    assert read(store, "run/big", 10 * MIB, etag=info.etag) == FIRST + SECOND


def refused(store: HdfsBackend) -> BackendError:
    with pytest.raises(BackendError) as caught:
        store.probe()
    assert not caught.value.retryable
    return caught.value


def test_a_ticket_opens_it(signed_in: SecuredCluster) -> None:
    remote = signed_in.fresh_remote()
    store = opened(remote, **TICKET, data="webhdfs")
    store.probe()
    in_two_parts(store)
    put(store, ".ckptd/manifests/a.json", b"{}")
    answer = signed_in.webhdfs("GET", f"{remote.path}/run/big", "GETFILESTATUS").json()["FileStatus"]
    assert (answer["owner"], answer["length"]) == ("ckptd", 10 * MIB)
    assert signed_in.webhdfs("GET", f"{remote.path}/run/big", "OPEN").content == FIRST + SECOND


def test_without_a_ticket_it_is_said_how_to_get_one(hdfs_secured: SecuredCluster) -> None:
    said = refused(opened(hdfs_secured.fresh_remote(), **TICKET))
    assert isinstance(said, CredentialsRefused)
    assert "kinit" in said.hint
    assert "No credentials were supplied" in said.message


def test_somebody_elses_ticket_is_named(hdfs_secured: SecuredCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", hdfs_secured.ticket("stranger"))
    said = refused(opened(hdfs_secured.fresh_remote(), **TICKET, user="ckptd"))
    assert isinstance(said, CredentialsRefused)
    assert "user stranger" in said.hint
    assert "klist" in said.hint


def test_a_host_that_the_kdc_does_not_know_is_named(signed_in: SecuredCluster) -> None:
    remote = signed_in.fresh_remote()
    store = HdfsBackend.from_url(remote.url.replace("localhost", "127.0.0.1"), {**TICKET})
    said = refused(store)
    assert "not as an IP address" in said.hint


def test_simple_authentication_is_told_to_use_kerberos(hdfs_secured: SecuredCluster) -> None:
    said = refused(opened(hdfs_secured.fresh_remote(), user="ckptd"))
    assert 'auth = "kerberos"' in said.hint


def test_a_delegation_token_opens_it_and_may_be_replaced_in_the_middle(
    hdfs_secured: SecuredCluster, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    tokens = [hdfs_secured.token(), hdfs_secured.token()]
    file.write_text(tokens[0])
    store = opened(hdfs_secured.fresh_remote(), token_file=str(file))
    store.probe()

    def replace() -> None:
        (tmp_path / "new").write_text(tokens[1])
        os.replace(tmp_path / "new", file)
        hdfs_secured.cancel(tokens[0])

    in_two_parts(store, replace)


def test_a_token_that_ends_in_the_middle_and_is_not_replaced_is_named(
    hdfs_secured: SecuredCluster, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(hdfs_secured.token())
    store = opened(hdfs_secured.fresh_remote(), token_file=str(file))
    with pytest.raises(CredentialsRefused) as caught:
        in_two_parts(store, lambda: hdfs_secured.cancel(file.read_text()))
    assert "token_file" in caught.value.hint


def test_a_text_that_is_no_token_is_named(hdfs_secured: SecuredCluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("no token")
    said = refused(opened(hdfs_secured.fresh_remote(), token_file=str(tmp_path / "token")))
    assert isinstance(said, CredentialsRefused)
    assert "token_file" in said.hint


def test_no_token_is_in_a_message(tmp_path: Path) -> None:
    """The whole address is in what requests says of a NameNode that cannot be reached. Needs no cluster."""
    (tmp_path / "token").write_text("SECRET")
    store = HdfsBackend.from_url("hdfs://127.0.0.1:1/x", {"token_file": str(tmp_path / "token")})
    with pytest.raises(BackendError) as caught:
        store.probe()
    assert "delegation=" in caught.value.message
    assert "SECRET" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("protection", ["authentication", "integrity", "privacy"])
def test_the_bytes_go_by_the_native_protocol_with_a_ticket_too(signed_in: SecuredCluster, protection: str) -> None:
    store = opened(signed_in.fresh_remote(), **TICKET, data="native", data_transfer_protection=protection)
    in_two_parts(store)


def test_without_the_cluster_s_protection_no_datanode_takes_native_bytes(signed_in: SecuredCluster) -> None:
    """It is why the option is there."""
    store = opened(signed_in.fresh_remote(), **TICKET, data="native")
    with pytest.raises(BackendError):
        in_two_parts(store)


class TestTls:
    def test_parts_joins_and_reads_go_to_the_datanode_over_it(self, signed_in: SecuredCluster) -> None:
        in_two_parts(opened(signed_in.fresh_remote(tls=True), **TICKET, data="webhdfs"))

    def test_the_namenode_is_asked_over_it_where_it_is_trusted(
        self, signed_in: SecuredCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Whatever the environment trusts."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", make_certificate(tmp_path, "DNS:elsewhere").cert)
        store = opened(signed_in.fresh_remote(tls=True), **TICKET)
        upload = store.begin("a", MIB)
        assert [each.upload_id for each in store.pending("")] == [upload]
        store.abort("a", upload)
        assert list(store.pending("")) == []

    def test_a_certificate_of_somebody_else_is_named_with_the_setting(
        self, signed_in: SecuredCluster, tmp_path: Path
    ) -> None:
        other = make_certificate(tmp_path, "DNS:localhost").cert
        said = refused(opened(signed_in.fresh_remote(tls=True), **TICKET, ca_bundle=other))
        assert isinstance(said, BadConfiguration)
        assert "ca_bundle" in said.hint

    def test_a_host_name_that_is_not_in_the_certificate_is_named(self, signed_in: SecuredCluster) -> None:
        remote = signed_in.fresh_remote(tls=True)
        store = HdfsBackend.from_url(remote.url.replace("localhost", "127.0.0.1"), {**remote.options, **TICKET})
        said = refused(store)
        assert isinstance(said, BadConfiguration)
        assert "certificate" in said.message
        assert "127.0.0.1" in said.hint
