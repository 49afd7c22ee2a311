"""What an s3:// remote can be told, and what is said about what can never work. No server."""

from __future__ import annotations

import pytest

from backends.errors import BadConfiguration, Unavailable
from backends.s3 import S3Backend
from backends.s3_options import S3Options


def test_a_url_is_a_bucket_and_a_prefix() -> None:
    for url, expected in {
        "s3://bucket": ("bucket", ""),
        "s3://bucket/": ("bucket", ""),
        "s3://bucket/a": ("bucket", "a/"),
        "s3://bucket/a//b c/": ("bucket", "a/b c/"),
        "s3://bucket/a%20b": ("bucket", "a%20b/"),
    }.items():
        options = S3Options.parse(url, {})
        assert (options.bucket, options.prefix) == expected


@pytest.mark.parametrize(
    ("url", "options", "named"),
    [
        ("s3://", {}, "s3://"),
        ("s3:///key", {}, "no bucket"),
        ("s3://key:secret@bucket/x", {}, "form"),
        ("s3://bucket/../x", {}, "form"),
        ("file:///x", {}, "file:///x"),
        ("s3://b", {"endpoint": "http://x"}, "'endpoint'"),
        ("s3://b", {"endpoint_url": "localhost:9000"}, "localhost:9000"),
        ("s3://b", {"endpoint_url": "ftp://x"}, "ftp://x"),
        ("s3://b", {"endpoint_url": "http://x:port"}, "http://x:port"),
        ("s3://b", {"endpoint_url": "http://"}, "http://"),
        ("s3://b", {"addressing_style": "dns"}, "addressing_style"),
        ("s3://b", {"checksum": "sha1"}, "checksum"),
        ("s3://b", {"verify_tls": "no"}, "verify_tls"),
        ("s3://b", {"ca_bundle": "/not/there.pem"}, "/not/there.pem"),
        ("s3://b", {"read_timeout": "soon"}, "read_timeout"),
        ("s3://b", {"connect_timeout": "-1"}, "connect_timeout"),
        ("s3://b", {"storage_class": "DEEP_ARCHIVE"}, "DEEP_ARCHIVE"),
        ("s3://b", {"tags": "team"}, "team"),
        ("s3://b", {"tags": "a=1,a=2"}, "a=1,a=2"),
        ("s3://b", {"tags": "=x"}, "=x"),
        ("s3://b", {"sse": "aes"}, "aes"),
        ("s3://b", {"kms_key_id": "1234"}, "kms_key_id"),
        ("s3://b", {"sse": "AES256", "kms_key_id": "1234"}, "kms_key_id"),
        ("s3://b", {"requester_pays": "yes"}, "requester_pays"),
        ("s3://b", {"secret_access_key": "x"}, "secret"),
        ("s3://b", {"aws_session_token": "x"}, "secret"),
    ],
)
def test_what_can_never_work_is_refused_by_name(url: str, options: dict[str, str], named: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        S3Backend.from_url(url, options)
    assert named in caught.value.message
    assert caught.value.hint or not url.startswith("s3")


def test_the_secret_itself_is_never_repeated() -> None:
    with pytest.raises(BadConfiguration) as caught:
        S3Backend.from_url("s3://b", {"secret_access_key": "hunter2"})
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_an_endpoint_of_ones_own_is_spoken_to_by_paths() -> None:
    assert S3Options.parse("s3://b", {}).addressing_style == "auto"
    assert S3Options.parse("s3://b", {"endpoint_url": "https://s3.example.com"}).addressing_style == "path"
    chosen = {"endpoint_url": "https://s3.example.com", "addressing_style": "virtual"}
    assert S3Options.parse("s3://b", chosen).addressing_style == "virtual"


def test_a_profile_that_is_not_there_is_named(s3_environment: None) -> None:
    store = S3Backend.from_url("s3://bucket", {"profile": "not-there"})
    with pytest.raises(BadConfiguration, match="not-there"):
        store.probe()


def test_a_bucket_name_that_cannot_be_is_bad_configuration(s3_environment: None) -> None:
    store = S3Backend.from_url("s3://UPPER CASE", {"endpoint_url": "http://127.0.0.1:1"})
    with pytest.raises(BadConfiguration, match="UPPER CASE"):
        store.probe()


def test_an_endpoint_where_nobody_listens_is_named_in_the_hint(s3_environment: None) -> None:
    store = S3Backend.from_url("s3://bucket", {"endpoint_url": "http://127.0.0.1:1"})
    with pytest.raises(Unavailable) as caught:
        store.probe()
    assert "http://127.0.0.1:1" in caught.value.hint
    store.close()


def test_the_region_defaults_only_where_a_server_is_named(
    s3_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, region in [
        ({"endpoint_url": "http://127.0.0.1:1"}, "us-east-1"),
        ({"endpoint_url": "http://127.0.0.1:1", "region": "garage"}, "garage"),
        ({"region": "eu-central-1"}, "eu-central-1"),
    ]:
        client = S3Options.parse("s3://bucket", options).connect()
        assert client.meta.region_name == region
        client.close()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    client = S3Options.parse("s3://bucket", {"endpoint_url": "http://127.0.0.1:1"}).connect()
    assert client.meta.region_name == "eu-west-3"
    client.close()
