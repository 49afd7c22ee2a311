"""An S3 that says no, at `up` and in `doctor`: what is wrong is named, and so is the fix. And what is mended while it runs.

What the real server refuses by itself is asked of it; clocks, regions, accounts and tokens of `servers.aws_refusals`, which
answers as AWS documents.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.aws_refusals import AwsRefusals
from servers.fault_proxy import FaultProxy
from servers.s3_server import S3Remote
from tests_node_bucket import PART, TRANSFER, Bucket, events, exposed, options, parts_sent, remote_ok
from tests_node_daemon import Daemon, save
from tests_node_refused import doctor, is_refused, written

pytestmark = pytest.mark.s3

NewDaemon = Callable[..., Daemon]

KEY_ID, SECRET, TOKEN = "ASIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI-hunter2-EXAMPLEKEY", "FwoGZXIvYXdzEJr-hunter3-token"


@pytest.fixture
def aws(s3_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsRefusals]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with AwsRefusals() as aws:
        yield aws
        assert aws.asked
        assert aws.odd == []


@pytest.fixture
def at_aws(new_daemon: NewDaemon, aws: AwsRefusals) -> NewDaemon:
    def make(bucket: str = "ckptd-here", *, environment: dict[str, str] | None = None, **more: str) -> Daemon:
        remote = S3Remote(f"s3://{bucket}/p", {"endpoint_url": aws.endpoint, "region": "us-east-1"})
        return new_daemon(remote=remote.url, options=options(remote, **more), environment=environment)

    return make


class TestAsAwsSaysIt:
    def test_a_clock_that_is_off(self, at_aws: NewDaemon, aws: AwsRefusals) -> None:
        aws.clock = 3720.0
        message = ("s3://ckptd-here/p", "RequestTimeTooSkewed", "this machine's clock is 62 minutes behind the store's")
        is_refused(at_aws(), message, ("15 minutes", "chrony"), 1, (SECRET,))

    def test_an_endpoint_that_does_not_have_the_bucket(self, at_aws: NewDaemon, aws: AwsRefusals) -> None:
        message = ("s3://ckptd-elsewhere/p", "PermanentRedirect", aws.endpoint, "but at s3.eu-central-1.amazonaws.com")
        hint = ('region = "eu-central-1"', 'endpoint_url = "https://s3.eu-central-1.amazonaws.com"')
        is_refused(at_aws("ckptd-elsewhere"), message, hint, 2, (SECRET,))

    def test_a_region_that_is_wrong_where_boto3_cannot_follow(self, at_aws: NewDaemon, aws: AwsRefusals) -> None:
        aws.names_region = False
        message = ("s3://ckptd-here/p", "AuthorizationHeaderMalformed", "'eu-west-3' is wrong")
        is_refused(at_aws(region="eu-west-3"), message, ('the option region = "us-east-1"',), 2, (SECRET,))

    def test_a_bucket_of_another_account(self, at_aws: NewDaemon) -> None:
        message = ("s3://ckptd-foreign/p", "AccessDenied (403)")
        is_refused(
            at_aws("ckptd-foreign"), message, ("PutObject", "another account needs a bucket policy"), 1, (SECRET,)
        )

    @pytest.mark.parametrize(
        ("code", "fix"), [("ExpiredToken", "log in again"), ("InvalidToken", "AWS_SESSION_TOKEN")]
    )  # fmt: skip
    def test_a_token_that_is_not_taken_and_comes_back_in_the_answer(
        self, at_aws: NewDaemon, aws: AwsRefusals, code: str, fix: str
    ) -> None:
        aws.tokens[TOKEN] = code
        daemon = at_aws(environment={"AWS_SESSION_TOKEN": TOKEN})
        is_refused(daemon, ("s3://ckptd-here/p", code), (fix,), 1, (SECRET, TOKEN))


class TestAsTheServerSaysIt:
    @pytest.mark.parametrize(
        ("url", "keys", "message", "hint"),
        [
            ("s3://ckptd-missing/p", {}, ("s3://ckptd-missing/p", "no such bucket", "http://"), "create the bucket"),
            ("", {"AWS_ACCESS_KEY_ID": KEY_ID}, ("InvalidAccessKeyId (403)",), "AWS_ACCESS_KEY_ID"),
            ("", {"AWS_SECRET_ACCESS_KEY": SECRET}, ("SignatureDoesNotMatch (403)",), "AWS_SECRET_ACCESS_KEY"),
            ("", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, ("credentials",), "set AWS_ACCESS_KEY_ID"),
        ],
        ids=["bucket", "key", "secret", "no keys"],
    )
    def test_it_is_refused(
        self, new_daemon: NewDaemon, s3_remote: Any, url: str, keys: dict[str, str], message: tuple[str, ...], hint: str
    ) -> None:
        daemon = new_daemon(remote=url or s3_remote.url, options=options(s3_remote), environment=keys)
        is_refused(daemon, (url or s3_remote.url, *message), (hint,), 1, (SECRET, "ckptd-test-secret"))

    def test_a_secret_in_the_configuration_is_named_and_not_shown(self, new_daemon: NewDaemon, s3_remote: Any) -> None:
        daemon = new_daemon(remote=s3_remote.url, options=options(s3_remote, secret_access_key=SECRET))
        is_refused(daemon, ("secret_access_key", "secrets"), ("AWS_SECRET_ACCESS_KEY",), 2, (SECRET,))


def test_a_wrong_region_that_the_store_corrects_is_followed(
    new_daemon: NewDaemon, s3_proxied: S3Remote, s3_server: Any
) -> None:
    s3_proxied.proxy.region = "eu-central-1"
    daemon = new_daemon(
        remote=s3_proxied.url, options=options(s3_proxied, region="us-west-2"), transfer=TRANSFER
    )  # fmt: skip
    daemon.start()
    content = os.urandom(2 * PART)
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": content, "DONE": b""})
    daemon.committed("run-1", 1)
    bucket = Bucket(s3_server, s3_proxied.url)
    assert bucket.get("run-1/checkpoint-1/model.bin") == content
    assert remote_ok(daemon)
    bucket.clear()


def test_a_token_that_ends_in_the_middle_of_an_upload_is_renewed_and_what_was_sent_counts(
    new_daemon: NewDaemon, s3_proxied: S3Remote, s3_server: Any, tmp_path: Path
) -> None:
    proxy, parts, keys = s3_proxied.proxy, 8, tmp_path / "credentials"
    assert isinstance(proxy, FaultProxy)

    def hand_out(access: str, secret: str) -> None:
        fresh = keys.with_suffix(".new")
        fresh.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
        fresh.rename(keys)

    first = ("ckptd-admin", "ckptd-admin-secret")
    hand_out(*first)
    daemon = new_daemon(
        remote=s3_proxied.url, options=options(s3_proxied, read_timeout="30"), transfer=TRANSFER + '\nbandwidth = "20MiB"',
        environment={"AWS_SHARED_CREDENTIALS_FILE": str(keys)},
    )  # fmt: skip
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del daemon.environment[name]
    daemon.start()
    content = os.urandom(parts * PART)
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": content, "DONE": b""})
    arrived = daemon.until(lambda: len(sent := parts_sent(proxy.finished)) >= 2 and sent, "some parts are there")
    proxy.expired.add(first[0])
    told = daemon.until(lambda: events(daemon).get("remote.unreachable"), "the operator is told")
    assert "ExpiredToken" in told["message"]
    assert s3_proxied.url in told["message"]
    assert "read again by itself" in told["fields"]["hint"]
    assert exposed(daemon) == len(content)
    assert len(parts_sent(proxy.finished)) < parts, "it was over before the token was: this proves nothing"
    said = doctor(daemon)
    assert "ExpiredToken" in said.message
    assert "log in again" in said.hint
    hand_out(s3_server.access_key, s3_server.secret_key)
    daemon.committed("run-1", 1, timeout=60)
    counts = parts_sent(proxy.finished)
    assert set(counts) == set(range(1, parts + 1))
    assert {counts[number] for number in arrived} == {1}
    assert sum(counts.values()) - parts <= 4  # those that were on their way beside the one that was refused
    bucket = Bucket(s3_server, s3_proxied.url)
    assert bucket.get("run-1/checkpoint-1/model.bin") == content
    assert bucket.unfinished() == []
    daemon.until(lambda: remote_ok(daemon), "well again")
    assert re.search(f"{first[1]}|{s3_server.secret_key}|Traceback", written(daemon)) is None
    bucket.clear()


def test_keys_that_ended_while_the_daemon_did_not_run_stop_a_start_by_hand_and_not_one_by_a_service_manager(
    new_daemon: NewDaemon, s3_remote: S3Remote, s3_server: Any, tmp_path: Path
) -> None:
    keys = tmp_path / "credentials"

    def hand_out(access: str, secret: str) -> None:
        keys.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")

    hand_out(s3_server.access_key, s3_server.secret_key)
    daemon = new_daemon(
        remote=s3_remote.url, options=options(s3_remote), environment={"AWS_SHARED_CREDENTIALS_FILE": str(keys)}
    )  # fmt: skip
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del daemon.environment[name]
    daemon.start()
    daemon.terminate()
    hand_out(KEY_ID, SECRET)
    _, said = daemon.launch()
    assert "InvalidAccessKeyId" in said["message"]
    assert daemon.process is not None
    assert daemon.process.wait(30) == 1
    daemon.environment["NOTIFY_SOCKET"] = str(tmp_path / "a manager that does not listen")
    daemon.start()
    assert not remote_ok(daemon)
    assert "InvalidAccessKeyId" in events(daemon)["remote.unreachable"]["message"]
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"1", "DONE": b""})
    daemon.state_is("run-1", 1, "complete")
    hand_out(s3_server.access_key, s3_server.secret_key)
    daemon.committed("run-1", 1, timeout=60)
    assert remote_ok(daemon)
    Bucket(s3_server, s3_remote.url).clear()
