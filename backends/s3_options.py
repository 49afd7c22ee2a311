"""What `s3://` takes: its URL, its options, and the boto3 client they make.

    endpoint_url       of an S3-compatible server; without it AWS (or AWS_ENDPOINT_URL)
    region             default: the SDK's own chain; `us-east-1` with an endpoint (boto3 follows a store that names another)
    profile            of ~/.aws/config
    addressing_style   path | virtual | auto; default: path with an endpoint, auto without
    checksum           auto | crc64nvme | crc32c | md5 | none (see `s3_checksum`)
    verify_tls         true | false
    ca_bundle          file with the certificates to trust
    connect_timeout    seconds, default 30; also bounds how long one block may wait to be sent
    read_timeout       seconds without a byte from the server, default 30

and what `s3_attributes` names (storage_class, tags, sse, kms_key_id, requester_pays).

Keys and tokens are no options: they come from the SDK's chain (environment, profile, instance role, mounted file).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from . import s3_attributes
from .errors import BadConfiguration
from .option_texts import check_values, seconds
from .s3_attributes import S3Attributes

_CHOICES = {
    "addressing_style": ("path", "virtual", "auto"),
    "checksum": ("auto", "crc64nvme", "crc32c", "md5", "none"),
    "verify_tls": ("true", "false"),
}
_FREE = ("endpoint_url", "region", "profile", "ca_bundle", "connect_timeout", "read_timeout", *s3_attributes.NAMES)
_SECRETS = {"access_key_id", "secret_access_key", "session_token", "access_key", "secret_key", "token"}


@dataclass(frozen=True, slots=True)
class S3Options:
    bucket: str
    prefix: str
    """Empty, or ends with a slash."""
    endpoint_url: str | None
    region: str | None
    profile: str | None
    addressing_style: str
    checksum: str
    verify_tls: bool
    ca_bundle: str | None
    connect_timeout: float
    read_timeout: float
    attributes: S3Attributes

    @classmethod
    def parse(cls, url: str, options: Mapping[str, str]) -> Self:
        """Raises BadConfiguration, with a hint, for what can never work."""
        bucket, prefix = _bucket_and_prefix(url)
        _check_names(options)
        endpoint = options.get("endpoint_url") or None
        if endpoint is not None:
            _check_endpoint(endpoint)
        ca_bundle = options.get("ca_bundle") or None
        if ca_bundle is not None and not os.path.exists(ca_bundle):
            raise BadConfiguration(f"ca_bundle '{ca_bundle}' does not exist", hint="a PEM file of trusted certificates")
        return cls(
            bucket=bucket,
            prefix=prefix,
            endpoint_url=endpoint,
            region=options.get("region") or None,
            profile=options.get("profile") or None,
            addressing_style=options.get("addressing_style", "path" if endpoint else "auto"),
            checksum=options.get("checksum", "auto"),
            verify_tls=options.get("verify_tls", "true") == "true",
            ca_bundle=ca_bundle,
            connect_timeout=seconds(options, "connect_timeout", 30.0),
            read_timeout=seconds(options, "read_timeout", 30.0),
            attributes=S3Attributes.parse(prefix, options),
        )

    def connect(self) -> Any:
        """A boto3 client of one attempt a call. Raises botocore's errors."""
        session = boto3.Session(profile_name=self.profile, region_name=self.region)
        region = self.region or session.region_name or ("us-east-1" if self.endpoint_url else None)
        # Unsigned payload: the checksum header is signed instead. Over http botocore would otherwise read and SHA-256
        # every part first, 0.6 s of CPU a GiB.
        details: Any = {"addressing_style": self.addressing_style, "payload_signing_enabled": False}
        config = Config(
            signature_version="s3v4",
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            max_pool_connections=64,
            tcp_keepalive=True,
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3=details,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            disable_request_compression=True,
            user_agent_extra="ckptd",
        )
        client = session.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=region,
            config=config,
            verify=(self.ca_bundle or True) if self.verify_tls else False,
        )
        client.meta.events.register_last("before-call.s3", _expect_only_for_parts)
        self.attributes.attach(client)
        return client


def _expect_only_for_parts(params: dict[str, Any], **_: object) -> None:
    """`Expect: 100-continue` saves sending a part to a server that refuses it, but costs a small object a round trip
    (and an empty one a second, as no server asks for a body of no bytes).
    """
    body: Any = params.get("body")
    if hasattr(body, "__len__") and len(body) < 1 << 20:
        params["headers"].pop("Expect", None)


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    if scheme != "s3":
        raise BadConfiguration(f"'{url}' is not an s3:// URL")
    bucket, _, path = rest.partition("/")
    if not bucket:
        raise BadConfiguration(f"'{url}' names no bucket", hint="s3://bucket/prefix")
    if any(mark in bucket for mark in "@?#") or any(segment in {".", ".."} for segment in path.split("/")):
        raise BadConfiguration(
            f"'{url}' is not of the form s3://bucket/prefix", hint="keys and tokens never go into it"
        )
    prefix = "/".join(segment for segment in path.split("/") if segment)
    return bucket, prefix + "/" if prefix else ""


def _check_names(options: Mapping[str, str]) -> None:
    for name in options:
        if name in _SECRETS or name.removeprefix("aws_") in _SECRETS:
            raise BadConfiguration(
                f"'{name}' is no option: secrets do not belong into configuration files",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile",
            )
    check_values(options, _FREE, _CHOICES, "an s3:// remote")


def _check_endpoint(endpoint: str) -> None:
    parts = urlsplit(endpoint)
    try:
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        port_ok = False
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok or parts.query or parts.username:
        raise BadConfiguration(
            f"endpoint_url '{endpoint}' is not a server's URL", hint="e.g. https://s3.example.com:9000"
        )
