"""S3 over TLS: certificates that are trusted, or not; and the same path for the bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from servers.fault_proxy import FaultProxy
from sources import MIB, keys, put, read

from backends.errors import BackendError, BadConfiguration
from backends.s3 import S3Backend

pytestmark = pytest.mark.s3


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate with")
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=ckptd test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture
def secured(s3_server: Any, s3_remote: Any, certificate: tuple[str, str]) -> Iterator[FaultProxy]:
    with FaultProxy(s3_server.port, certificate=certificate) as proxy:
        yield proxy


def test_bytes_go_up_and_come_back(s3_remote: Any, secured: FaultProxy, certificate: tuple[str, str]) -> None:
    store = S3Backend.from_url(s3_remote.url, {"endpoint_url": secured.endpoint, "ca_bundle": certificate[0]})
    store.probe()
    data = os.urandom(7 * MIB + 1)
    info = put(store, "a", data)
    assert read(store, "a", len(data), etag=info.etag) == data
    store.delete(keys(store))
    store.close()


def test_a_certificate_nobody_vouches_for_is_refused_with_both_ways_out(s3_remote: Any, secured: FaultProxy) -> None:
    store = S3Backend.from_url(s3_remote.url, {"endpoint_url": secured.endpoint})
    with pytest.raises(BadConfiguration) as caught:
        store.probe()
    assert "ca_bundle" in caught.value.hint
    assert "verify_tls" in caught.value.hint
    store.close()


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_verification_can_be_turned_off(s3_remote: Any, secured: FaultProxy) -> None:
    store = S3Backend.from_url(s3_remote.url, {"endpoint_url": secured.endpoint, "verify_tls": "false"})
    store.probe()
    store.close()


def test_https_to_a_server_that_speaks_http_is_bad_configuration(s3_remote: Any, s3_server: Any) -> None:
    store = S3Backend.from_url(s3_remote.url, {"endpoint_url": f"https://127.0.0.1:{s3_server.port}"})
    with pytest.raises(BadConfiguration):
        store.probe()
    store.close()


@pytest.mark.parametrize("status", [200, 404, 502])
def test_a_server_that_is_no_s3_store_is_not_believed(s3_environment: None, status: int) -> None:
    class Website(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<!doctype html><html><body>Hello<br></body></html>")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Website)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        store = S3Backend.from_url("s3://bucket", {"endpoint_url": f"http://127.0.0.1:{server.server_port}"})
        with pytest.raises(BackendError) as caught:
            store.probe()
        assert caught.value.code in {"unavailable", "bucket-missing"}
        assert "speak S3" in caught.value.hint
        store.close()
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
