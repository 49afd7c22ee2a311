"""What is HDFS's own: names, options, checksums, joins, and what the user is told, against a real NameNode and DataNode."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme
from hypothesis import given
from hypothesis import strategies as st
from servers.hdfs_cluster import HdfsRemote

from backends.contract.sources import FIRST, MIB, SECOND, TAIL, WHOLE, keys, put, put_part, read
from backends.errors import (
    BadConfiguration,
    BucketMissing,
    ChecksumMismatch,
    CredentialsRefused,
    Unavailable,
    UploadGone,
)
from backends.hdfs import HdfsBackend
from backends.hdfs_checksum import BlockSums, StoredSum
from backends.hdfs_join import StoredPart, block_size_of
from backends.hdfs_names import escaped, unescaped

WAYS = ("native", "webhdfs")


class TestNames:
    @given(st.text(alphabet="%253A:a/"))
    def test_what_hdfs_refuses_is_escaped_and_comes_back(self, key: str) -> None:
        assert ":" not in escaped(key)
        assert unescaped(escaped(key)) == key

    @given(st.text(alphabet="%2a b/é"))
    def test_other_names_stay_as_they_are(self, key: str) -> None:
        assert escaped(key) == key


class TestBlockSize:
    @given(st.integers(1, 4096).map(lambda mib: mib * MIB))
    def test_a_block_divides_the_part_so_that_concat_takes_it(self, part: int) -> None:
        block = block_size_of(part, None)
        assert block is not None
        assert part % block == 0
        assert block % 512 == 0
        assert MIB <= block <= 256 * MIB

    def test_a_wish_that_does_not_divide_the_part_gives_way(self) -> None:
        assert block_size_of(64 * MIB, 32 * MIB) == 32 * MIB
        assert block_size_of(64 * MIB, 48 * MIB) == 64 * MIB


class TestOptions:
    @pytest.mark.parametrize(
        ("url", "options", "said"),
        [
            ("hdfs:///x", {}, "names no NameNode"),
            ("hdfs://me@nn/x", {}, "names a user"),
            ("hdfs://nn:99999/x", {}, "no address"),
            ("hdfs://nn,/x", {}, "no address"),
            ("hdfs://nn/a/../b", {}, "no folder"),
            ("hdfs://nn/x", {"token": "secret"}, "no option"),
            ("hdfs://nn/x", {"replication": "0"}, "replication"),
            ("hdfs://nn/x", {"block_size": "1000"}, "block_size"),
            ("hdfs://nn/x", {"auth": "ldap"}, "auth"),
            ("hdfs://nn/x", {"ca_bundle": "/nowhere.pem"}, "ca_bundle"),
            ("hdfs://nn/x", {"http_path": "webhdfs"}, "http_path"),
            ("hdfs://nn/x", {"rpc": "nn:x"}, "rpc"),
        ],
    )
    def test_what_cannot_work_is_refused_with_its_name(self, url: str, options: dict[str, str], said: str) -> None:
        with pytest.raises(BadConfiguration, match=said) as refused:
            HdfsBackend.from_url(url, options)
        assert refused.value.hint


class TestChecksum:
    def test_stretches_of_any_length_make_the_same_sums(self) -> None:
        data = os.urandom(3 * 2048 + 700)
        whole, pieces = BlockSums(2048), BlockSums(2048)
        whole.feed(data)
        for begin in range(0, len(data), 333):
            pieces.feed(data[begin : begin + 333])
        assert pieces.sums() == whole.sums()
        assert len(whole.sums().blocks) == 4

    def test_a_kind_that_is_not_known_is_read_back_instead(self) -> None:
        assert StoredSum.parse("SHA-3", "00" * 32) is None
        assert StoredSum.parse("MD5-of-0MD5-of-512CRC32C", "zz") is None

    def test_composite_is_the_crc_of_everything(self) -> None:
        taken = BlockSums(MIB)
        taken.feed(b"123456789")
        stored = StoredSum.parse("COMPOSITE-CRC32C", "e3069283")  # the catalogue's check value of CRC-32C
        assert stored is not None
        assert taken.sums().matches(stored)


@pytest.mark.hdfs
@pytest.mark.parametrize("way", WAYS)
class TestAgainstACluster:
    @pytest.fixture
    def store(self, hdfs_remote: HdfsRemote, way: str) -> HdfsBackend:
        return HdfsBackend.from_url(hdfs_remote.url, {**hdfs_remote.options, "data": way})

    def test_files_belong_to_the_user_that_was_named(self, hdfs_remote: HdfsRemote, store: HdfsBackend) -> None:
        put(store, "a", b"x")
        answer = hdfs_remote.cluster.webhdfs("GET", f"{hdfs_remote.path}/a", "GETFILESTATUS").json()["FileStatus"]
        assert (answer["owner"], answer["permission"]) == ("ckptd", "644")

    def test_the_checksum_of_the_whole_is_compared_where_that_is_asked_for(
        self, hdfs_remote: HdfsRemote, way: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What HDFS says of it counts: with another answer the parts are refused."""
        options = {**hdfs_remote.options, "data": way, "checksum": "always"}
        store = HdfsBackend.from_url(hdfs_remote.url, options)
        upload = store.begin("big", 10 * MIB)
        parts = [put_part(store, "big", upload, 1, 0, FIRST), put_part(store, "big", upload, 2, 5 * MIB, SECOND)]
        assert all(StoredPart.parse(part.tag).sums for part in parts)
        info = store.finish("big", upload, parts, crc64nvme(FIRST + SECOND))
        assert read(store, "big", 10 * MIB, etag=info.etag) == FIRST + SECOND
        lie = StoredSum(512, "CRC32C", bytes(16))
        monkeypatch.setattr("backends.hdfs_files.HdfsFiles.stored_sum", lambda *_: lie)
        with pytest.raises(ChecksumMismatch):
            put(store, "small", b"x")
        assert store.head("small") is None

    def test_what_lies_there_is_plain(self, hdfs_remote: HdfsRemote, store: HdfsBackend) -> None:
        upload = store.begin("run/big", len(WHOLE))
        parts = [
            put_part(store, "run/big", upload, number, (number - 1) * 5 * MIB, data)
            for number, data in enumerate((FIRST, SECOND, TAIL), start=1)
        ]
        store.finish("run/big", upload, parts, crc64nvme(WHOLE))
        assert hdfs_remote.cluster.webhdfs("GET", f"{hdfs_remote.path}/run/big", "OPEN").content == WHOLE
        found = hdfs_remote.cluster.webhdfs("GET", f"{hdfs_remote.path}/.ckptd/tmp", "LISTSTATUS").json()
        assert found["FileStatuses"]["FileStatus"] == []

    def test_a_join_that_was_killed_half_way_goes_on(self, hdfs_remote: HdfsRemote, store: HdfsBackend) -> None:
        upload = store.begin("big", len(WHOLE))
        parts = [
            put_part(store, "big", upload, number, (number - 1) * 5 * MIB, data)
            for number, data in enumerate((FIRST, SECOND, TAIL), start=1)
        ]
        folder = f"{hdfs_remote.path}/.ckptd/tmp/{upload}"
        first, second = (StoredPart.parse(part.tag).name for part in parts[:2])
        hdfs_remote.cluster.webhdfs(
            "POST", f"{folder}/{first}", "CONCAT", sources=f"{folder}/{second}"
        ).raise_for_status()
        info = store.finish("big", upload, parts, crc64nvme(WHOLE))
        assert read(store, "big", len(WHOLE), etag=info.etag) == WHOLE

    def test_parts_that_concat_refuses_go_through_one_stream(self, hdfs_remote: HdfsRemote, store: HdfsBackend) -> None:
        """Blocks of two sizes, as two nodes with other settings would leave them."""
        other = HdfsBackend.from_url(hdfs_remote.url, {**hdfs_remote.options, "data": "webhdfs", "block_size": "1MiB"})
        upload = store.begin("big", 10 * MIB)
        parts = [
            put_part(store, "big", upload, 1, 0, FIRST),
            put_part(other, "big", upload, 2, 5 * MIB, SECOND),
        ]
        info = store.finish("big", upload, parts, crc64nvme(FIRST + SECOND))
        assert read(store, "big", 10 * MIB, etag=info.etag) == FIRST + SECOND

    def test_many_parts_are_joined_in_several_calls(self, store: HdfsBackend) -> None:
        """Their names do not fit into one address."""
        data = os.urandom(MIB)
        upload = store.begin("big", 60 * MIB)
        parts = [put_part(store, "big", upload, n + 1, n * MIB, data) for n in range(60)]
        info = store.finish("big", upload, parts, crc64nvme(data * 60))
        assert info.size == 60 * MIB
        assert read(store, "big", 2 * MIB, 58 * MIB, etag=info.etag) == data * 2

    def test_a_name_with_a_colon_is_stored_under_another(self, hdfs_remote: HdfsRemote, store: HdfsBackend) -> None:
        put(store, "run/a:b%3A", b"x")
        listed = hdfs_remote.cluster.webhdfs("GET", f"{hdfs_remote.path}/run", "LISTSTATUS").json()
        assert listed["FileStatuses"]["FileStatus"][0]["pathSuffix"] == "a%3Ab%253A"
        assert keys(store) == ["run/a:b%3A"]

    def test_a_folder_of_somebody_else_is_refused_by_name(self, hdfs_remote: HdfsRemote, way: str) -> None:
        hdfs_remote.cluster.make_directory(f"{hdfs_remote.path}/theirs", "somebody")
        store = HdfsBackend.from_url(f"{hdfs_remote.url}/theirs", {**hdfs_remote.options, "data": way})
        with pytest.raises(CredentialsRefused, match="Permission denied") as refused:
            store.probe()
        assert "user ckptd" in refused.value.hint

    def test_a_folder_whose_parent_is_missing_is_named(self, hdfs_remote: HdfsRemote, way: str) -> None:
        store = HdfsBackend.from_url(f"{hdfs_remote.url}/not/there", {**hdfs_remote.options, "data": way})
        with pytest.raises(BucketMissing, match="not/there") as refused:
            store.probe()
        assert "hdfs dfs -mkdir" in refused.value.hint
        HdfsBackend.from_url(f"{hdfs_remote.url}/new", {**hdfs_remote.options, "data": way}).probe()

    def test_the_rpc_port_in_the_url_is_recognised(self, hdfs_remote: HdfsRemote, way: str) -> None:
        port = hdfs_remote.cluster.namenode_rpc
        store = HdfsBackend.from_url(f"hdfs://127.0.0.1:{port}/x", {**hdfs_remote.options, "data": way})
        with pytest.raises(BadConfiguration, match="RPC port") as refused:
            store.probe()
        assert "dfs.namenode.http-address" in refused.value.hint

    def test_a_namenode_that_is_away_is_passed_over(self, hdfs_remote: HdfsRemote, way: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # not listening: refused
            away = taken.getsockname()[1]
            address = hdfs_remote.url.removeprefix("hdfs://")
            store = HdfsBackend.from_url(f"hdfs://127.0.0.1:{away},{address}", {**hdfs_remote.options, "data": way})
            put(store, "a", b"1")
            assert read(store, "a", 1) == b"1"
            alone = HdfsBackend.from_url(f"hdfs://127.0.0.1:{away}/x", {**hdfs_remote.options, "data": way})
            with pytest.raises(Unavailable) as refused:
                alone.probe()
        assert "dfs.namenode.http-address" in refused.value.hint

    def test_an_upload_whose_folder_was_removed_is_gone(self, hdfs_remote: HdfsRemote, store: HdfsBackend) -> None:
        upload = store.begin("a", len(FIRST))
        hdfs_remote.cluster.webhdfs("DELETE", f"{hdfs_remote.path}/.ckptd/tmp/{upload}", "DELETE", recursive="true")
        with pytest.raises(UploadGone):
            put_part(store, "a", upload, 1, 0, FIRST)

    def test_a_delegation_token_serves_in_the_place_of_a_name(
        self, hdfs_remote: HdfsRemote, way: str, tmp_path: Path
    ) -> None:
        """Without security a NameNode gives none, and ignores what it cannot read: so only that it is read is seen here."""
        missing = {**hdfs_remote.options, "data": way, "token_file": str(tmp_path / "missing")}
        with pytest.raises(CredentialsRefused, match="token_file"):
            HdfsBackend.from_url(hdfs_remote.url, missing).probe()
