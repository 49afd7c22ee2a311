"""An OSS that says no, at `up` and in `doctor`: what is wrong is named, and so is the fix.

By the gateway, which checks every signature. Missing keys, a secret in the configuration and a token that ends
in the middle of an upload are `test_node_oss`'s.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers.oss_server import OssGateway, OssRemote
from tests_node_bucket import options
from tests_node_daemon import Daemon, save
from tests_node_refused import is_refused

pytestmark = pytest.mark.oss

NewDaemon = Callable[..., Daemon]

SECRET, TOKEN = "hunter2-of-this-test", "hunter3-CAISxyz-token"
OURS = "ckptd-test-secret"


@pytest.fixture
def at_oss(new_daemon: NewDaemon, oss_gateway: OssGateway, oss_environment: None) -> NewDaemon:
    def make(bucket: str = "ckptd-test", *, environment: dict[str, str] | None = None, **more: str) -> Daemon:
        remote = OssRemote(f"oss://{bucket}/refused", oss_gateway.options | more)
        return new_daemon(remote=remote.url, options=options(remote), environment=environment)

    return make


def test_a_clock_that_is_off(at_oss: NewDaemon, oss_gateway: OssGateway) -> None:
    oss_gateway.control(clock=-8 * 3600.0)
    said = "this machine's clock is 480 minutes ahead of the store's"
    message = ("oss://ckptd-test/refused", "RequestTimeTooSkewed", said)
    is_refused(at_oss(), message, ("15 minutes", "chrony"), 1, (OURS,))


def test_a_region_that_is_not_the_endpoints(at_oss: NewDaemon) -> None:
    message = ("oss://ckptd-test/refused", "Invalid signing region", "it was signed for region 'cn-elsewhere'")
    is_refused(at_oss(region="cn-elsewhere"), message, ("the option region", "as cn-hangzhou"), 2, (OURS,))


def test_an_endpoint_that_does_not_have_the_bucket(at_oss: NewDaemon, oss_gateway: OssGateway) -> None:
    message = ("oss://ckptd-elsewhere/refused", oss_gateway.options["endpoint_url"], "at oss-cn-other.aliyuncs.com")
    hint = ('region = "cn-other"', 'endpoint_url, where it is set, to "https://oss-cn-other.aliyuncs.com"')
    is_refused(at_oss("ckptd-elsewhere"), message, hint, 2, (OURS,))


def test_a_bucket_that_does_not_exist(at_oss: NewDaemon, oss_gateway: OssGateway) -> None:
    message = ("oss://ckptd-missing/refused", "no such bucket", oss_gateway.options["endpoint_url"])
    is_refused(at_oss("ckptd-missing"), message, ("create the bucket", "region"), 1, (OURS,))


def test_a_bucket_of_another_account(at_oss: NewDaemon) -> None:
    message = ("oss://ckptd-foreign/refused", "AccessDenied (403)", "does not belong to you", "[request ")
    is_refused(
        at_oss("ckptd-foreign"), message, ("oss:ListObjects", "another account needs a bucket policy"), 1, (OURS,)
    )


@pytest.mark.parametrize(
    ("changed", "said", "hint"),
    [
        ({"OSS_ACCESS_KEY_ID": "LTAI5tNobody"}, "InvalidAccessKeyId", "check OSS_ACCESS_KEY_ID"),
        ({"OSS_ACCESS_KEY_SECRET": SECRET}, "SignatureDoesNotMatch", "OSS_ACCESS_KEY_SECRET"),
        ({"OSS_SESSION_TOKEN": TOKEN}, "InvalidSecurityToken", "OSS_SESSION_TOKEN"),
    ],
    ids=["key", "secret", "token"],
)
def test_keys_that_are_wrong(at_oss: NewDaemon, changed: dict[str, str], said: str, hint: str) -> None:
    message = ("oss://ckptd-test/refused", f"{said} (403)")
    is_refused(at_oss(environment=changed), message, (hint,), 1, (OURS, SECRET, TOKEN))


def test_a_token_that_has_ended_is_refused_until_the_file_holds_another(
    at_oss: NewDaemon, oss_gateway: OssGateway, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"

    def hand_out(number: int, **good: Any) -> None:
        oss_gateway.control(keys={f"STS.{number}": {"secret": SECRET, "token": TOKEN} | good})
        keys = {"AccessKeyId": f"STS.{number}", "AccessKeySecret": SECRET, "SecurityToken": TOKEN}
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps(keys))
        beside.replace(file)

    hand_out(1, ends=time.time() - 1)
    daemon = at_oss(
        credentials_file=str(file), environment={"OSS_ACCESS_KEY_ID": "", "OSS_ACCESS_KEY_SECRET": ""}
    )  # fmt: skip
    message = ("oss://ckptd-test/refused", "SecurityTokenExpired (403)")
    is_refused(daemon, message, ("renew it in credentials_file", "OSS_SESSION_TOKEN"), 1, (SECRET, TOKEN))
    hand_out(2)
    daemon.start()
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"1" * 1000, "DONE": b""})
    daemon.committed("run-1", 1)
