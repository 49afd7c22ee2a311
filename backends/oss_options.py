"""What `oss://` takes: its URL and its options.

    region             as `cn-hangzhou`: names the endpoint and goes into V4 signatures; default: OSS_REGION
    endpoint_url       default: the region's own, or OSS_ENDPOINT; a custom domain with `cname`
    network            public | internal (from inside Alibaba Cloud: free and faster) | accelerate; default: public
    cname              true | false: endpoint_url is a domain that is bound to the bucket
    signature          v4 | v1 (old private clouds)
    credentials_file   JSON with temporary keys that is renewed by others (see `oss_credentials`)
    role               RAM role of the ECS instance; default: the one it has
    metadata_url       of the instance's metadata service; default `http://100.100.100.200`
    verify_tls         true | false
    ca_bundle          file with the certificates to trust
    connect_timeout    seconds, default 30; also bounds how long one block may wait to be sent
    read_timeout       seconds without a byte from the server, default 30

and what `oss_attributes` names (storage_class, tags, sse, kms_key_id, requester_pays).

Keys and tokens are no options: they come from the environment, a file, or the instance's role.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from . import oss_attributes
from .errors import BadConfiguration
from .option_texts import check_values, seconds
from .oss_attributes import OssAttributes

_CHOICES = {
    "network": ("public", "internal", "accelerate"),
    "cname": ("true", "false"),
    "signature": ("v4", "v1"),
    "verify_tls": ("true", "false"),
}
_FREE = (
    "region", "endpoint_url", "credentials_file", "role", "metadata_url", "ca_bundle", "connect_timeout", "read_timeout",
    *oss_attributes.NAMES,
)  # fmt: skip
_SECRETS = {"access_key_id", "access_key_secret", "security_token", "session_token", "secret", "token"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_OWN = re.compile(r"(?:[^.]+\.)?oss-([a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com")


@dataclass(frozen=True, slots=True)
class OssOptions:
    bucket: str
    prefix: str
    """Empty, or ends with a slash."""
    endpoint: str
    """With its scheme."""
    region: str | None
    """None only where the signature does not need it."""
    cname: bool
    signature: str
    credentials_file: str | None
    role: str | None
    metadata_url: str
    verify_tls: bool
    ca_bundle: str | None
    connect_timeout: float
    read_timeout: float
    attributes: OssAttributes

    @classmethod
    def parse(cls, url: str, options: Mapping[str, str]) -> Self:
        """Raises BadConfiguration, with a hint, for what can never work."""
        bucket, prefix = _bucket_and_prefix(url)
        _check_names(options)
        endpoint, region = _endpoint_and_region(options)
        signature = options.get("signature", "v4")
        if signature == "v4" and region is None:
            raise BadConfiguration(f"{url}: no region", hint='set the option region = "cn-hangzhou" or the like')
        ca_bundle = options.get("ca_bundle") or None
        if ca_bundle is not None and not os.path.exists(ca_bundle):
            raise BadConfiguration(f"ca_bundle '{ca_bundle}' does not exist", hint="a PEM file of trusted certificates")
        return cls(
            bucket=bucket,
            prefix=prefix,
            endpoint=endpoint,
            region=region,
            cname=options.get("cname") == "true",
            signature=signature,
            credentials_file=options.get("credentials_file") or None,
            role=options.get("role") or None,
            metadata_url=options.get("metadata_url") or "http://100.100.100.200",
            verify_tls=options.get("verify_tls", "true") == "true",
            ca_bundle=ca_bundle,
            connect_timeout=seconds(options, "connect_timeout", 30.0),
            read_timeout=seconds(options, "read_timeout", 30.0),
            attributes=OssAttributes.parse(prefix, options),
        )


def region_of(host: str) -> str | None:
    """Of one of OSS's own endpoints."""
    own = _OWN.fullmatch(host)
    return own[1] if own and own[1] != "accelerate" else None


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    if scheme != "oss":
        raise BadConfiguration(f"'{url}' is not an oss:// URL")
    bucket, _, path = rest.partition("/")
    if not bucket:
        raise BadConfiguration(f"'{url}' names no bucket", hint="oss://bucket/prefix")
    if any(mark in bucket for mark in "@?#:") or any(segment in {".", ".."} for segment in path.split("/")):
        raise BadConfiguration(
            f"'{url}' is not of the form oss://bucket/prefix", hint="keys, tokens and endpoints never go into it"
        )
    if not _BUCKET.fullmatch(bucket):
        raise BadConfiguration(
            f"'{bucket}' cannot be a bucket's name", hint="3 to 63 lower-case letters, digits and hyphens, no dots"
        )
    prefix = "/".join(segment for segment in path.split("/") if segment)
    return bucket, prefix + "/" if prefix else ""


def _check_names(options: Mapping[str, str]) -> None:
    for name in options:
        if name in _SECRETS or name.removeprefix("oss_") in _SECRETS:
            raise BadConfiguration(
                f"'{name}' is no option: secrets do not belong into configuration files",
                hint="set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or name a credentials_file",
            )
    check_values(options, _FREE, _CHOICES, "an oss:// remote")


def _endpoint_and_region(options: Mapping[str, str]) -> tuple[str, str | None]:
    """Each follows from the other for OSS's own endpoints."""
    region = options.get("region") or os.environ.get("OSS_REGION") or None
    network = options.get("network", "public")
    given = options.get("endpoint_url") or (os.environ.get("OSS_ENDPOINT") if "network" not in options else None)
    if region is not None:
        region = region.removeprefix("oss-")
        if not _REGION.fullmatch(region):
            raise BadConfiguration(f"region = '{region}'", hint="as cn-hangzhou, without a domain")
    if given and "network" in options:
        raise BadConfiguration(
            "endpoint_url and network exclude one another", hint="network chooses among the region's own endpoints"
        )
    if given:
        endpoint = given if "://" in given else f"https://{given}"
        host = _host_of(endpoint, given)
        return endpoint.rstrip("/"), region or region_of(host)
    if region is None:
        raise BadConfiguration(
            "neither region nor endpoint_url is set", hint='set the option region = "cn-hangzhou" or the like'
        )
    host = {"public": f"oss-{region}", "internal": f"oss-{region}-internal", "accelerate": "oss-accelerate"}[network]
    return f"https://{host}.aliyuncs.com", region


def _host_of(endpoint: str, given: str) -> str:
    parts = urlsplit(endpoint)
    try:
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        port_ok = False
    wrong = parts.path.strip("/") or parts.query or parts.username
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok or wrong:
        raise BadConfiguration(
            f"endpoint_url '{given}' is not an endpoint",
            hint="e.g. https://oss-cn-hangzhou.aliyuncs.com, without bucket",
        )
    return parts.hostname
