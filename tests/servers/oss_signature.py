"""Checks OSS's signatures, written from its documentation and not from the client's code.

V1: https://www.alibabacloud.com/help/en/oss/developer-reference/include-signatures-in-the-authorization-header
V4: https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote

SKEW_S = 900

# The parameters that are part of a V1 resource, of those the tests meet.
_SUBRESOURCES = {
    "acl", "append", "bucketInfo", "continuation-token", "delete", "objectMeta", "partNumber", "position",
    "security-token", "stat", "tagging", "uploadId", "uploads", "versionId", "versions",
}  # fmt: skip


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str, **details: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.details = status, code, message, details


@dataclass(frozen=True)
class Request:
    method: str
    bucket: str
    key: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    """Names in lower case."""


def verify(request: Request, keys: Mapping[str, Mapping[str, object]], region: str, now: float) -> None:
    """`keys`: id → secret, token (or nothing), ends (or nothing). Raises Refused."""
    said = request.headers.get("authorization", "")
    if said.startswith("OSS4-HMAC-SHA256 "):
        _verify_v4(request, said, keys, region, now)
    elif said.startswith("OSS "):
        _verify_v1(request, said, keys, now)
    else:
        raise Refused(403, "AccessDenied", "Anonymous access is forbidden for this operation.")


def _secret(request: Request, key_id: str, keys: Mapping[str, Mapping[str, object]], now: float) -> str:
    found = keys.get(key_id)
    if found is None:
        raise Refused(403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records.")
    token = request.headers.get("x-oss-security-token")
    if token != found.get("token"):
        raise Refused(403, "InvalidSecurityToken", "The security token you provided is invalid.")
    if found.get("ends") and now > float(str(found["ends"])):
        raise Refused(403, "SecurityTokenExpired", "The security token you provided has expired.")
    return str(found["secret"])


def _in_time(stamp: float, now: float) -> None:
    if abs(now - stamp) > SKEW_S:
        raise Refused(
            403, "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.", MaxAllowedSkewMilliseconds="900000",
        )  # fmt: skip


def _mismatch() -> Refused:
    return Refused(
        403, "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    )  # fmt: skip


def _oss_headers(headers: Mapping[str, str], also: Sequence[str] = ()) -> str:
    chosen = sorted(
        (name, value.strip()) for name, value in headers.items() if name.startswith("x-oss-") or name in also
    )
    return "".join(f"{name}:{value}\n" for name, value in chosen)


def _verify_v1(request: Request, said: str, keys: Mapping[str, Mapping[str, object]], now: float) -> None:
    key_id, _, signature = said.removeprefix("OSS ").partition(":")
    secret = _secret(request, key_id, keys, now)
    date = request.headers.get("x-oss-date") or request.headers.get("date", "")
    try:
        stamp = parsedate_to_datetime(date).timestamp()
    except ValueError:
        raise Refused(403, "AccessDenied", "OSS authentication requires a valid Date.") from None
    _in_time(stamp, now)
    chosen = sorted((name, value) for name, value in request.query if name in _SUBRESOURCES)
    query = "&".join(f"{name}={value}" if value else name for name, value in chosen)
    resource = f"/{request.bucket}/{request.key}" + (f"?{query}" if query else "")
    text = "\n".join([
        request.method, request.headers.get("content-md5", ""), request.headers.get("content-type", ""), date,
        _oss_headers(request.headers) + resource,
    ])  # fmt: skip
    meant = base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()
    if not hmac.compare_digest(meant, signature):
        raise _mismatch()


_V4 = re.compile(
    r"OSS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]*)/oss/aliyun_v4_request, ?"
    r"(?:AdditionalHeaders=(?P<first>[^,]*), ?)?Signature=(?P<signature>[0-9a-f]{64})(?:, ?AdditionalHeaders=(?P<also>.*))?"
)


def _verify_v4(request: Request, said: str, keys: Mapping[str, Mapping[str, object]], region: str, now: float) -> None:
    parts = _V4.fullmatch(said)
    if parts is None:
        raise Refused(400, "InvalidArgument", "The Authorization header is malformed.")
    secret = _secret(request, parts["id"], keys, now)
    moment = request.headers.get("x-oss-date", "")
    try:
        _in_time(calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ")), now)
    except ValueError:
        raise Refused(400, "InvalidArgument", "Invalid x-oss-date.") from None
    if parts["day"] != moment[:8]:
        raise Refused(400, "InvalidArgument", "Invalid signing date in Authorization header.")
    if parts["region"] != region:
        raise Refused(400, "InvalidArgument", "Invalid signing region in Authorization header.")
    if "x-oss-content-sha256" not in request.headers:
        raise Refused(400, "InvalidArgument", "x-oss-content-sha256 is missing.")
    also = [name for name in (parts["first"] or parts["also"] or "").split(";") if name]
    signed = [*also, "content-type", "content-md5"]
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in request.query)
    canonical = "\n".join([
        request.method, quote(f"/{request.bucket}/{request.key}", safe="/~"),
        "&".join(f"{name}={value}" if value else name for name, value in pairs),
        _oss_headers(request.headers, signed), ";".join(sorted(also)), request.headers["x-oss-content-sha256"],
    ])  # fmt: skip
    scope = f"{parts['day']}/{parts['region']}/oss/aliyun_v4_request"
    text = "\n".join(["OSS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"aliyun_v4" + secret.encode()
    for step in (parts["day"], parts["region"], "oss", "aliyun_v4_request"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), parts["signature"]):
        raise _mismatch()
