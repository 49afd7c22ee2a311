"""What objects are written with beside their bytes: looked at in the store, and on the wire where it does not tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from awscrt.checksums import crc64nvme
from botocore.awsrequest import AWSResponse
from sources import MIB, Memory, keys, put, put_part, read

from backends.base import Origin
from backends.s3 import S3Backend

pytestmark = pytest.mark.s3

BODY = os.urandom(5 * MIB)


@pytest.fixture
def open_with(s3_remote: Any) -> Iterator[Callable[..., S3Backend]]:
    opened: list[S3Backend] = []

    def opener(**options: str) -> S3Backend:
        opened.append(S3Backend.from_url(s3_remote.url, s3_remote.options | options))
        return opened[-1]

    yield opener
    for backend in opened:
        backend.delete(keys(backend))
        backend.close()


def client_of(backend: S3Backend) -> Any:
    return backend._connection.client


def sent(backend: S3Backend) -> list[tuple[str, dict[str, str]]]:
    """Operation and headers of each request from now on."""
    found: list[tuple[str, dict[str, str]]] = []

    def note(request: Any, event_name: str, **_: object) -> None:
        headers = {
            str(name).lower(): value if isinstance(value, str) else value.decode()
            for name, value in request.headers.items()
        }
        found.append((event_name.rpartition(".")[2], headers))

    client_of(backend).meta.events.register("before-send.s3", note)
    return found


def in_parts(backend: S3Backend, key: str) -> None:
    upload = backend.begin(key, len(BODY) + 4)
    parts = [put_part(backend, key, upload, 1, 0, BODY), put_part(backend, key, upload, 2, len(BODY), b"tail")]
    backend.finish(key, upload, parts, crc64nvme(BODY + b"tail"))


def test_class_and_tags_are_given_to_files_and_not_to_what_is_ours(open_with: Callable[..., S3Backend]) -> None:
    store = open_with(storage_class="STANDARD_IA", tags="team=ml, owner = x-1")
    origin = put(store, "run/small", b"small")
    in_parts(store, "run/parts")
    store.copy("run/copy", Origin("run/small", origin.etag), Memory(b"small"), crc64nvme(b"small"))
    put(store, ".ckptd/manifests/run/1/n.json", b"{}")
    client = client_of(store)
    for key in ("run/small", "run/parts", "run/copy"):
        assert client.head_object(**store._at(key)).get("StorageClass") == "STANDARD_IA", key
        tags = client.get_object_tagging(**store._at(key))["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "ml", "owner": "x-1"}, key
    odd = open_with(tags="what=a&b =c")  # SeaweedFS takes it from PUT, and not from CopyObject
    put(odd, "run/odd", b"odd")
    assert client.get_object_tagging(**store._at("run/odd"))["TagSet"] == [{"Key": "what", "Value": "a&b =c"}]
    ours = store._at(".ckptd/manifests/run/1/n.json")
    assert client.head_object(**ours).get("StorageClass", "STANDARD") == "STANDARD"
    assert client.get_object_tagging(**ours)["TagSet"] == []


def test_every_request_that_knows_it_says_who_pays(open_with: Callable[..., S3Backend]) -> None:
    store = open_with(requester_pays="true")
    requests = sent(store)
    put(store, "run/small", b"small")
    in_parts(store, "run/parts")
    store.abort("run/gone", store.begin("run/gone", 10 * MIB))
    assert read(store, "run/small", 5) == b"small"
    assert store.head("run/parts")
    assert keys(store, "run/") == ["run/parts", "run/small"]
    store.delete(["run/parts"])
    paid = {name for name, headers in requests if headers.get("x-amz-request-payer") == "requester"}
    assert paid == {name for name, _ in requests}
    assert {"PutObject", "UploadPart", "CompleteMultipartUpload", "GetObject", "HeadObject", "ListObjectsV2"} <= paid


def test_encryption_is_asked_for_wherever_an_object_begins(open_with: Callable[..., S3Backend]) -> None:
    """The test's store has no keys: the requests are looked at, and not sent."""
    store = open_with(sse="aws:kms", kms_key_id="arn:aws:kms:us-east-1:1:key/k", checksum="crc64nvme")
    asked: list[tuple[str, dict[str, str]]] = []

    def answer(model: Any, params: dict[str, Any], **_: object) -> tuple[Any, dict[str, Any]]:
        asked.append((model.name, params["headers"]))
        return AWSResponse(params["url"], 200, {}, None), {"ETag": '"x"', "UploadId": "u", "CopyObjectResult": {}}

    client_of(store).meta.events.register_first("before-call.s3", answer)
    put(store, ".ckptd/format", b"{}")
    store.begin("run/parts", 10 * MIB)
    with pytest.raises(KeyError):  # the answer to HEAD, which is empty here
        store.copy("run/copy", Origin("run/small", '"x"'), Memory(b"small"), crc64nvme(b"small"))
    assert [name for name, _ in asked] == ["PutObject", "CreateMultipartUpload", "CopyObject", "HeadObject"]
    for name, headers in asked[:3]:
        assert headers["x-amz-server-side-encryption"] == "aws:kms", name
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "arn:aws:kms:us-east-1:1:key/k", name
