"""Keys that end and are renewed: from a file, a local service, the metadata service of an ECS instance."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from awscrt.checksums import crc64nvme
from servers.oss_server import OssGateway, OssRemote
from sources import MIB, keys, put, put_part, read

from backends.errors import CredentialsRefused
from backends.oss import OssBackend
from backends.oss_credentials import Keys, RenewedKeys

pytestmark = pytest.mark.oss

PART = os.urandom(MIB)


def stamp(seconds_from_now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds_from_now))


def temporary(number: int, ends: float = 3600) -> dict[str, str]:
    return {
        "Code": "Success", "AccessKeyId": f"STS.{number}", "AccessKeySecret": f"secret-{number}",
        "SecurityToken": f"token-{number}", "Expiration": stamp(ends),
    }  # fmt: skip


def known(*numbers: int, ended: int = 0) -> dict[str, Any]:
    """What the gateway is told: those are good, that one has ended."""
    found: dict[str, Any] = {f"STS.{n}": {"secret": f"secret-{n}", "token": f"token-{n}"} for n in numbers}
    if ended:
        found[f"STS.{ended}"] = {"secret": f"secret-{ended}", "token": f"token-{ended}", "ends": time.time() - 1}
    return found


@pytest.fixture
def remote(oss_gateway: OssGateway, oss_environment: None, monkeypatch: pytest.MonkeyPatch) -> OssRemote:
    """A prefix of the gateway, and no keys in the environment."""
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
        monkeypatch.delenv(name)
    return OssRemote(f"oss://ckptd-test/{os.urandom(8).hex()}", oss_gateway.options)


@pytest.fixture
def open_with(remote: OssRemote) -> Iterator[Callable[..., OssBackend]]:
    opened: list[OssBackend] = []

    def opener(**options: str) -> OssBackend:
        opened.append(OssBackend.from_url(remote.url, remote.options | options))
        return opened[-1]

    yield opener
    for backend in opened:
        backend.close()


class Metadata:
    """The metadata service of an instance (https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata)."""

    def __init__(self, *, tokens: bool = True) -> None:
        self.answer: dict[str, str] = temporary(1)
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def say(self, status: int, body: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def do_PUT(self) -> None:
                good = tokens and self.path == "/latest/api/token"
                good = good and bool(self.headers["X-aliyun-ecs-metadata-token-ttl-seconds"])
                self.say(200, "metadata-token") if good else self.say(404)

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if tokens and self.headers["X-aliyun-ecs-metadata-token"] != "metadata-token":
                    self.say(403)
                elif self.path.endswith("/security-credentials/"):
                    self.say(200, "training-role")
                elif self.path.endswith("/security-credentials/training-role"):
                    self.say(200, json.dumps(outer.answer))
                else:
                    self.say(404)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.mark.parametrize("tokens", [True, False])
def test_the_role_of_the_instance_is_used_and_asked_again_before_its_keys_end(
    open_with: Callable[..., OssBackend], oss_gateway: OssGateway, monkeypatch: pytest.MonkeyPatch, tokens: bool
) -> None:
    monkeypatch.delenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED")
    with Metadata(tokens=tokens) as metadata:
        oss_gateway.control(keys=known(1))
        store = open_with(metadata_url=metadata.url)
        put(store, "a", b"1")
        asked = len(metadata.asked)
        put(store, "a", b"2")
        assert len(metadata.asked) == asked  # they are good for an hour
        metadata.answer = temporary(2, ends=60)
        oss_gateway.control(keys=known(2, ended=1))
        with pytest.raises(CredentialsRefused):  # the store ended them before their time
            put(store, "a", b"3")
        put(store, "a", b"3")
        metadata.answer = temporary(3)
        oss_gateway.control(keys=known(3))
        store._connection._keys._not_before = 0.0  # the pause between two renewals is over
        assert read(store, "a", 1) == b"3"  # those of a minute were renewed before the store refused them


def test_a_role_that_is_not_there_is_named(
    open_with: Callable[..., OssBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED")
    with Metadata() as metadata:
        store = open_with(metadata_url=metadata.url, role="other-role")
        with pytest.raises(CredentialsRefused, match="other-role"):
            store.probe()
    with pytest.raises(CredentialsRefused) as caught:
        store.probe()  # nobody answers: not an ECS instance
    assert "OSS_ACCESS_KEY_ID" in caught.value.hint


def test_a_local_service_may_hand_out_keys(
    open_with: Callable[..., OssBackend], oss_gateway: OssGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    oss_gateway.control(keys=known(1))
    with Metadata(tokens=False) as service:
        address = f"{service.url}/latest/meta-data/ram/security-credentials/training-role"
        monkeypatch.setenv("ALIBABA_CLOUD_CREDENTIALS_URI", address)
        put(open_with(), "a", b"1")


class TestFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "keys.json"

    @staticmethod
    def write(file: Path, content: object) -> None:
        """As those do who renew such files: beside it, then renamed."""
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps(content))
        beside.replace(file)

    def test_what_is_renewed_in_the_middle_of_an_upload_is_used_for_the_next_part(
        self, open_with: Callable[..., OssBackend], oss_gateway: OssGateway, file: Path
    ) -> None:
        self.write(file, temporary(1))
        oss_gateway.control(keys=known(1, 2))
        store = open_with(credentials_file=str(file))
        upload = store.begin("a", 2 * MIB)
        parts = [put_part(store, "a", upload, 1, 0, PART)]
        self.write(file, temporary(2))
        oss_gateway.control(keys=known(2, ended=1))
        parts.append(put_part(store, "a", upload, 2, MIB, PART))
        assert store.finish("a", upload, parts, crc64nvme(PART * 2)).size == 2 * MIB

    def test_a_token_that_ends_in_the_middle_of_an_upload_is_named_and_the_upload_goes_on_with_the_next(
        self, open_with: Callable[..., OssBackend], oss_gateway: OssGateway, file: Path
    ) -> None:
        self.write(file, temporary(1))
        oss_gateway.control(keys=known(1))
        store = open_with(credentials_file=str(file))
        upload = store.begin("a", 2 * MIB)
        parts = [put_part(store, "a", upload, 1, 0, PART)]
        oss_gateway.control(keys=known(ended=1))
        with pytest.raises(CredentialsRefused) as caught:
            put_part(store, "a", upload, 2, MIB, PART)
        assert "SecurityTokenExpired" in caught.value.message
        assert "credentials_file" in caught.value.hint
        self.write(file, temporary(2))
        oss_gateway.control(keys=known(2))
        parts.append(put_part(store, "a", upload, 2, MIB, PART))
        store.finish("a", upload, parts, crc64nvme(PART * 2))
        assert read(store, "a", 2 * MIB) == PART * 2

    @pytest.mark.parametrize("content", ["", "no json", "[]", '{"AccessKeyId": "hunter2"}', '{"Expiration": 3}'])
    def test_a_file_that_holds_no_keys_is_named_and_not_repeated(
        self, open_with: Callable[..., OssBackend], file: Path, content: str
    ) -> None:
        file.write_text(content)
        with pytest.raises(CredentialsRefused, match=r"keys\.json") as caught:
            keys(open_with(credentials_file=str(file)))
        assert "hunter2" not in caught.value.message + caught.value.hint

    def test_a_file_that_is_not_there_is_named(self, open_with: Callable[..., OssBackend], file: Path) -> None:
        with pytest.raises(CredentialsRefused, match=r"keys\.json"):
            keys(open_with(credentials_file=str(file)))


def test_keys_that_cannot_be_renewed_yet_are_used_to_their_end() -> None:
    answers = iter([Keys("1", "s", "t", time.time() + 60)])

    def fetch() -> Keys:
        try:
            return next(answers)
        except StopIteration:
            raise CredentialsRefused("not now") from None

    provider = RenewedKeys(fetch)
    assert provider.get_credentials().get_access_key_id() == "1"
    assert provider.get_credentials().get_access_key_id() == "1"
    provider.forget()
    with pytest.raises(CredentialsRefused, match="not now"):
        provider.get_credentials()


def test_many_threads_renew_once() -> None:
    fetched: list[int] = []

    def fetch() -> Keys:
        fetched.append(1)
        return Keys("1", "s", "t", time.time() + 3600)

    provider = RenewedKeys(fetch)
    with ThreadPoolExecutor(8) as pool:
        assert {found.get_access_key_id() for found in pool.map(lambda _: provider.get_credentials(), range(64))} == {
            "1"
        }
    assert len(fetched) == 1
