"""What objects are written with beside their bytes, looked at in the store; and who pays, on the wire."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from awscrt.checksums import crc64nvme
from servers.oss_server import OssGateway, OssRemote
from sources import MIB, Memory, keys, put, put_part, read

from backends.base import Origin
from backends.oss import OssBackend

pytestmark = pytest.mark.oss

BODY = os.urandom(MIB)


@pytest.fixture
def open_with(oss_gateway: OssGateway, oss_environment: None) -> Iterator[Callable[..., OssBackend]]:
    remote = OssRemote(f"oss://ckptd-test/{os.urandom(8).hex()}", oss_gateway.options)
    opened: list[OssBackend] = []

    def opener(**options: str) -> OssBackend:
        opened.append(OssBackend.from_url(remote.url, remote.options | options))
        return opened[-1]

    yield opener
    opener().delete(keys(opened[-1]))
    for backend in opened:
        backend.close()


def told(store: OssBackend, key: str) -> Any:
    return store._connection.bucket.head_object(store._name(key)).headers


@pytest.mark.parametrize("signature", ["v4", "v1"])
def test_class_and_tags_are_given_to_files_and_not_to_what_is_ours(
    open_with: Callable[..., OssBackend], signature: str
) -> None:
    store = open_with(storage_class="IA", tags="team=ml, what=a&b =c", sse="KMS", kms_key_id="k", signature=signature)
    origin = put(store, "run/small", b"small")
    upload = store.begin("run/parts", len(BODY))
    store.finish("run/parts", upload, [put_part(store, "run/parts", upload, 1, 0, BODY)], crc64nvme(BODY))
    store.copy("run/copy", Origin("run/small", origin.etag), Memory(b"small"), crc64nvme(b"small"))
    put(store, ".ckptd/manifests/run/1/n.json", b"{}")
    for key in ("run/small", "run/parts", "run/copy"):
        headers = told(store, key)
        assert headers["x-oss-storage-class"] == "IA", key
        assert headers["x-oss-tagging"] == "team=ml&what=a%26b%20%3Dc", key
        assert headers["x-oss-server-side-encryption-key-id"] == "k", key
    ours = told(store, ".ckptd/manifests/run/1/n.json")
    assert ours["x-oss-server-side-encryption"] == "KMS"
    assert not {"x-oss-storage-class", "x-oss-tagging"} & set(ours)


def test_every_request_says_who_pays(open_with: Callable[..., OssBackend]) -> None:
    store = open_with(requester_pays="true")
    paid: list[str | None] = []
    session = store._connection.bucket.session.session

    def note(answer: Any, **_: object) -> None:
        paid.append(answer.request.headers.get("x-oss-request-payer"))

    session.hooks["response"].append(note)
    put(store, "a", BODY)
    upload = store.begin("b", len(BODY))
    put_part(store, "b", upload, 1, 0, BODY)
    store.abort("b", upload)
    assert read(store, "a", 5) == BODY[:5]
    assert keys(store) == ["a"]
    assert list(store.pending("")) == []
    store.delete(["a"])
    assert store.head("a") is None
    assert len(paid) == 9  # one request a call
    assert set(paid) == {"requester"}
