"""An OSS for the tests: the gateway of `oss_gateway.py` in a process of its own, one for each worker of a test run.

    def test_it(oss_remote)      # a fresh prefix: oss_remote.url, .options; keys are in the environment
    def test_it(oss_gateway)     # its endpoint, and .control(…)
    def test_it(oss_proxied)     # the same remote behind a `fault_proxy.FaultProxy`: oss_proxied.proxy

Where CKPTD_TEST_OSS_ENDPOINT, …_BUCKET, …_KEY_ID and …_KEY_SECRET (and …_REGION, where the endpoint does not tell) are set,
`oss_remote` is a prefix of that bucket; what misbehaves on command stays with the gateway.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from servers.fault_proxy import FaultProxy
from servers.oss_gateway import KEYS, REGION

BUCKET = "ckptd-test"
_REAL = ("CKPTD_TEST_OSS_ENDPOINT", "CKPTD_TEST_OSS_BUCKET", "CKPTD_TEST_OSS_KEY_ID", "CKPTD_TEST_OSS_KEY_SECRET")
_OURS = (
    "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN", "OSS_REGION", "OSS_ENDPOINT",
    "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN",
    "ALIBABA_CLOUD_CREDENTIALS_URI", "ALIBABA_CLOUD_ECS_METADATA",
)  # fmt: skip


@dataclass(frozen=True)
class OssRemote:
    url: str
    options: dict[str, str] = field(default_factory=dict)
    proxy: Any = None
    """The FaultProxy in front, for `oss_proxied`."""


@dataclass(frozen=True)
class OssGateway:
    port: int
    folder: Path

    @property
    def options(self) -> dict[str, str]:
        return {"endpoint_url": f"http://127.0.0.1:{self.port}", "region": REGION}

    def control(self, **settings: Any) -> None:
        """See `oss_gateway`; `oss_gateway` the fixture puts everything back."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/-/control", json.dumps(settings).encode())
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()

    def reset(self) -> None:
        self.control(keys=KEYS, clock=0.0, quirks=[])


@pytest.fixture(scope="session")
def oss_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OssGateway]:
    pytest.importorskip("oss2", reason="no OSS client here: pip install oss2")
    folder = tmp_path_factory.mktemp("oss") / "data"
    with start_gateway(folder) as process:
        assert process.stdout is not None
        yield OssGateway(int(process.stdout.readline()), folder)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def start_gateway(folder: Path) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("oss_gateway.py")
    return subprocess.Popen(
        [sys.executable, program, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def oss_gateway(oss_process: OssGateway) -> Iterator[OssGateway]:
    yield oss_process
    oss_process.reset()


@pytest.fixture
def oss_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the gateway, and nothing of this machine's own settings."""
    for name in _OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "ckptd-test")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "ckptd-test-secret")


@pytest.fixture
def oss_remote(request: pytest.FixtureRequest, oss_environment: None, monkeypatch: pytest.MonkeyPatch) -> OssRemote:
    prefix = uuid.uuid4().hex
    if all(os.environ.get(name) for name in _REAL):
        endpoint, bucket, key_id, secret = (os.environ[name] for name in _REAL)
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", key_id)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", secret)
        region = os.environ.get("CKPTD_TEST_OSS_REGION")
        return OssRemote(
            f"oss://{bucket}/{prefix}", {"endpoint_url": endpoint} | ({"region": region} if region else {})
        )
    gateway = request.getfixturevalue("oss_gateway")
    return OssRemote(f"oss://{BUCKET}/{prefix}", gateway.options)


@pytest.fixture
def oss_proxied(oss_gateway: OssGateway, oss_environment: None) -> Iterator[OssRemote]:
    with FaultProxy(oss_gateway.port) as proxy:
        options = oss_gateway.options | {"endpoint_url": proxy.endpoint}
        yield OssRemote(f"oss://{BUCKET}/{uuid.uuid4().hex}", options, proxy)
