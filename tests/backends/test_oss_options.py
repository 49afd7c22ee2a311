"""What an oss:// remote can be told, and what is said about what can never work. No server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.crc64xz import combine_crc64xz, crc64xz
from backends.errors import BadConfiguration, CredentialsRefused, Unavailable
from backends.oss import OssBackend
from backends.oss_options import OssOptions

HERE = {"region": "cn-test", "endpoint_url": "http://127.0.0.1:1"}


@pytest.fixture(autouse=True)
def _own(oss_environment: None) -> None:
    """Nothing of this machine's settings."""


@pytest.mark.parametrize(
    ("options", "endpoint", "region"),
    [
        ({"region": "cn-hangzhou"}, "https://oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ({"region": "oss-cn-hangzhou"}, "https://oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        (
            {"region": "cn-hangzhou", "network": "internal"},
            "https://oss-cn-hangzhou-internal.aliyuncs.com",
            "cn-hangzhou",
        ),
        ({"region": "cn-hangzhou", "network": "accelerate"}, "https://oss-accelerate.aliyuncs.com", "cn-hangzhou"),
        ({"endpoint_url": "oss-us-west-1.aliyuncs.com"}, "https://oss-us-west-1.aliyuncs.com", "us-west-1"),
        (
            {"endpoint_url": "http://oss-us-west-1-internal.aliyuncs.com/"},
            "http://oss-us-west-1-internal.aliyuncs.com",
            "us-west-1",
        ),
        ({"endpoint_url": "https://data.example.com", "region": "me-east-1"}, "https://data.example.com", "me-east-1"),
        ({"endpoint_url": "http://10.0.0.1:8080", "signature": "v1"}, "http://10.0.0.1:8080", None),
    ],
)
def test_endpoint_and_region_follow_from_one_another(
    options: dict[str, str], endpoint: str, region: str | None
) -> None:
    found = OssOptions.parse("oss://bucket/a//b c/", options)
    assert (found.endpoint, found.region) == (endpoint, region)
    assert (found.bucket, found.prefix) == ("bucket", "a/b c/")


def test_region_and_endpoint_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_REGION", "eu-central-1")
    assert OssOptions.parse("oss://bucket", {}).endpoint == "https://oss-eu-central-1.aliyuncs.com"
    monkeypatch.setenv("OSS_ENDPOINT", "oss-eu-central-1-internal.aliyuncs.com")
    assert OssOptions.parse("oss://bucket", {}).endpoint == "https://oss-eu-central-1-internal.aliyuncs.com"
    assert "accelerate" in OssOptions.parse("oss://bucket", {"network": "accelerate"}).endpoint


@pytest.mark.parametrize(
    ("cname", "url"),
    [("false", "https://bucket.data.example.com/a%2Fb"), ("true", "https://data.example.com/a%2Fb")],
)
def test_a_domain_of_ones_own_is_not_prefixed_with_the_bucket(cname: str, url: str) -> None:
    store = OssBackend.from_url(
        "oss://bucket", {"endpoint_url": "https://data.example.com", "region": "cn-x", "cname": cname}
    )
    assert store._connection.bucket._make_url("bucket", "a/b") == url
    store.close()


@pytest.mark.parametrize(
    ("url", "options", "named"),
    [
        ("oss://", HERE, "oss://"),
        ("oss:///key", HERE, "no bucket"),
        ("oss://id:secret@bucket/x", HERE, "form"),
        ("oss://bucket.oss-cn-hangzhou.aliyuncs.com/x", HERE, "cannot be a bucket"),
        ("oss://Upper/x", HERE, "Upper"),
        ("oss://bucket/../x", HERE, "form"),
        ("file:///x", HERE, "file:///x"),
        ("oss://bucket", {}, "region"),
        ("oss://bucket", {"endpoint_url": "http://10.0.0.1"}, "no region"),
        ("oss://bucket", {"endpoint_url": "https://oss-accelerate.aliyuncs.com"}, "no region"),
        ("oss://bucket", {"region": "cn-hangzhou.aliyuncs.com"}, "cn-hangzhou.aliyuncs.com"),
        ("oss://bucket", {"region": "cn-x", "network": "vpc"}, "network"),
        ("oss://bucket", HERE | {"network": "internal"}, "exclude"),
        ("oss://bucket", HERE | {"endpoint_url": "https://h/bucket"}, "https://h/bucket"),
        ("oss://bucket", HERE | {"endpoint_url": "ftp://h"}, "ftp://h"),
        ("oss://bucket", HERE | {"endpoint_url": "http://h:port"}, "http://h:port"),
        ("oss://bucket", HERE | {"endpoint": "http://h"}, "'endpoint'"),
        ("oss://bucket", HERE | {"storage_class": "Archive"}, "Archive"),
        ("oss://bucket", HERE | {"storage_class": "GLACIER"}, "storage_class"),
        ("oss://bucket", HERE | {"tags": "a=1,a=2"}, "a=1,a=2"),
        ("oss://bucket", HERE | {"sse": "aws:kms"}, "aws:kms"),
        ("oss://bucket", HERE | {"kms_key_id": "1234"}, "kms_key_id"),
        ("oss://bucket", HERE | {"requester_pays": "yes"}, "requester_pays"),
        ("oss://bucket", HERE | {"signature": "v3"}, "signature"),
        ("oss://bucket", HERE | {"verify_tls": "no"}, "verify_tls"),
        ("oss://bucket", HERE | {"ca_bundle": "/not/there.pem"}, "/not/there.pem"),
        ("oss://bucket", HERE | {"read_timeout": "soon"}, "read_timeout"),
        ("oss://bucket", HERE | {"access_key_secret": "hunter2"}, "secret"),
        ("oss://bucket", HERE | {"oss_session_token": "hunter2"}, "secret"),
    ],
)
def test_what_can_never_work_is_refused_by_name(url: str, options: dict[str, str], named: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        OssBackend.from_url(url, options)
    assert named in caught.value.message
    assert caught.value.hint or not url.startswith("oss")
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_an_endpoint_where_nobody_listens_is_named_in_the_hint() -> None:
    store = OssBackend.from_url("oss://bucket", HERE)
    with pytest.raises(Unavailable) as caught:
        store.probe()
    assert "http://127.0.0.1:1" in caught.value.hint
    store.close()


def test_without_keys_it_says_which_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    store = OssBackend.from_url("oss://bucket", HERE)
    monkeypatch.delenv("OSS_ACCESS_KEY_SECRET")
    with pytest.raises(CredentialsRefused, match="OSS_ACCESS_KEY_SECRET is not set"):
        store.probe()
    monkeypatch.delenv("OSS_ACCESS_KEY_ID")
    with pytest.raises(CredentialsRefused) as caught:
        store.probe()
    assert "OSS_ACCESS_KEY_ID" in caught.value.hint
    store.close()


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_join(one: bytes, other: bytes) -> None:
    assert combine_crc64xz(crc64xz(one), crc64xz(other), len(other)) == crc64xz(one + other)
    assert crc64xz(memoryview(other), crc64xz(one)) == crc64xz(one + other)


def test_the_checksum_is_the_catalogue_s() -> None:
    assert crc64xz(b"123456789") == 0x995DC9BBDF1939FA
    assert combine_crc64xz(crc64xz(b"a"), crc64xz(bytes(64 << 20)), 64 << 20) == crc64xz(b"a" + bytes(64 << 20))
