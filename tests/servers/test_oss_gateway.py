"""The gateway is only worth something if it refuses: everything here is what a correct client never sends."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import oss2
import pytest
from oss2.models import PartInfo
from servers.oss_server import OssGateway

pytestmark = pytest.mark.oss

PART = os.urandom(100 << 10)


@pytest.fixture(params=["v1", "v4"])
def bucket(request: pytest.FixtureRequest, oss_gateway: OssGateway) -> Iterator[Any]:
    """oss2 as it comes, with its own checksums."""
    auth = oss2.make_auth("ckptd-test", "ckptd-test-secret", request.param)
    session = oss2.Session()
    endpoint = oss_gateway.options["endpoint_url"]
    yield oss2.Bucket(auth, endpoint, "ckptd-test", session=session, region=oss_gateway.options["region"])
    session.session.close()


@pytest.fixture
def key() -> str:
    return f"{uuid.uuid4().hex}/ö +1"


def code_of(call: Any) -> str:
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        call()
    return str(caught.value.code)


def test_a_plain_client_of_another_make_is_content(bucket: Any, key: str) -> None:
    assert bucket.put_object(key, PART).crc == bucket.head_object(key).server_crc
    assert bucket.get_object(key).read() == PART
    upload = bucket.init_multipart_upload(key).upload_id
    parts = [PartInfo(n, bucket.upload_part(key, upload, n, PART).etag, part_crc=None) for n in (1, 2)]
    assert [part.size for part in bucket.list_objects_v2(prefix=key).object_list] == [len(PART)]
    bucket.enable_crc = False
    bucket.complete_multipart_upload(key, upload, parts)
    assert bucket.get_object(key).read() == PART * 2


def test_a_body_of_another_md5_is_refused(bucket: Any, key: str) -> None:
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert code_of(lambda: bucket.put_object(key, PART, headers={"Content-MD5": wrong})) == "InvalidDigest"
    assert not bucket.object_exists(key)


def test_what_is_there_is_not_overwritten_where_that_is_forbidden(bucket: Any, key: str) -> None:
    once = {"x-oss-forbid-overwrite": "true"}
    bucket.put_object(key, b"1", headers=once)
    assert code_of(lambda: bucket.put_object(key, b"2", headers=once)) == "FileAlreadyExists"
    upload = bucket.init_multipart_upload(key).upload_id
    part = PartInfo(1, bucket.upload_part(key, upload, 1, PART).etag)
    bucket.enable_crc = False
    complete = bucket.complete_multipart_upload
    assert code_of(lambda: complete(key, upload, [part], headers=once)) == "FileAlreadyExists"
    assert bucket.get_object(key).read() == b"1"


def test_parts_out_of_order_too_small_or_unknown_are_not_joined(bucket: Any, key: str) -> None:
    bucket.enable_crc = False
    upload = bucket.init_multipart_upload(key).upload_id
    etags = [bucket.upload_part(key, upload, n, data).etag for n, data in enumerate((PART, PART, b"x", PART), start=1)]

    def complete(*numbers: int) -> Any:
        rows = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etags[n - 1]}</ETag></Part>" for n in numbers)
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>"
        return bucket._do("POST", "ckptd-test", key, params={"uploadId": upload}, data=body)

    assert code_of(lambda: complete(2, 1)) == "InvalidPartOrder"
    assert code_of(lambda: complete(1, 1)) == "InvalidPartOrder"
    assert code_of(lambda: complete(1, 3, 4)) == "EntityTooSmall"
    etags[1] = "0" * 32
    assert code_of(lambda: complete(1, 2)) == "InvalidPart"
    assert not bucket.object_exists(key)
    bucket.abort_multipart_upload(key, upload)
    assert code_of(lambda: bucket.upload_part(key, upload, 1, PART)) == "NoSuchUpload"


def test_a_body_that_ends_too_early_is_not_stored(oss_gateway: OssGateway, bucket: Any, key: str) -> None:
    request = oss2.http.Request("PUT", bucket._make_url("ckptd-test", key), data=b"", region="cn-test", product="oss")
    bucket.auth._sign_request(request, "ckptd-test", key)
    lines = [f"PUT {request.url.partition(str(oss_gateway.port))[2]} HTTP/1.1", "Host: x", "Content-Length: 1000"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if value]
    with socket.create_connection(("127.0.0.1", oss_gateway.port)) as wire:
        wire.sendall("\r\n".join([*lines, "", "half"]).encode())
        wire.shutdown(socket.SHUT_WR)
        assert wire.recv(1000) == b""
    assert not bucket.object_exists(key)


@pytest.mark.parametrize("changed", ["method", "path", "query", "header", "none", "anonymous"])
def test_a_signature_is_good_for_what_was_signed_only(
    oss_gateway: OssGateway, bucket: Any, key: str, changed: str
) -> None:
    bucket.put_object(key, b"1")
    request = oss2.http.Request(
        "GET", bucket._make_url("ckptd-test", key), params={"versionId": "1"}, headers={"x-oss-meta-a": "1"},
        region="cn-test", product="oss",
    )  # fmt: skip
    bucket.auth._sign_request(request, "ckptd-test", key)
    path = request.url.partition(str(oss_gateway.port))[2]
    headers = {name: value for name, value in request.headers.items() if value}
    method = "DELETE" if changed == "method" else "GET"
    if changed == "path":
        path = path.replace("1", "2", 1)
    if changed == "header":
        headers["x-oss-meta-a"] = "2"
    if changed == "anonymous":
        headers.pop("authorization", headers.pop("Authorization", None))
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    connection = http.client.HTTPConnection("127.0.0.1", oss_gateway.port, timeout=30)
    connection.request(method, f"{path}?versionId={2 if changed == 'query' else 1}", headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if changed == "none":
        assert (answer.status, body) == (200, b"1")
    else:
        assert answer.status == 403
        assert (b"AccessDenied" if changed == "anonymous" else b"SignatureDoesNotMatch") in body
