"""What OSS, oss2 and the wire say, as errors of `backends.errors`: the tables are `_CODES` and `_STATUSES`.

OSS's codes: https://www.alibabacloud.com/help/en/oss/support/http-status-code-403 and its neighbours.
"""

from __future__ import annotations

import http.client
from contextlib import AbstractContextManager
from xml.etree import ElementTree as ET

import requests
import urllib3.exceptions
from oss2.exceptions import ClientError, OssError, RequestError, ServerError

from .caller import WatchedSource
from .errors import (
    BackendError,
    BadConfiguration,
    BucketMissing,
    ChecksumMismatch,
    CredentialsRefused,
    NoSpace,
    NotFound,
    PreconditionFailed,
    Unavailable,
    UploadGone,
)  # fmt: skip
from .oss_options import region_of
from .translation import TLS_FOR_EVER, Where, clock_off, retry_after, translated_by

_KEY_HINT = "check OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET; a temporary key needs its token in OSS_SESSION_TOKEN"
_EXPIRED = (
    "the security token has expired: renew it in credentials_file, which is read again by itself (in OSS_SESSION_TOKEN it "
    "takes a restart of the daemon), or use an ECS role"
)
_CLOCK = "OSS takes no request that is more than 15 minutes off: set this machine's clock (chrony, systemd-timesyncd)"
_ALLOW = (
    "these credentials may not do this: they need oss:ListObjects, GetObject, PutObject, DeleteObject, AbortMultipartUpload "
    "and ListMultipartUploads on this bucket; a bucket of another account needs a bucket policy too"
)
_REGION = "set the option region to the one of the endpoint and the bucket (as cn-hangzhou, without oss-)"

_CODES: dict[str, tuple[type[BackendError], str]] = {
    "NoSuchBucket": (BucketMissing, "create the bucket, or correct the remote's URL or region"),
    "NoSuchKey": (NotFound, ""),
    "SymlinkTargetNotExist": (NotFound, ""),
    "NoSuchUpload": (UploadGone, ""),
    "InvalidPart": (UploadGone, ""),
    "InvalidPartOrder": (UploadGone, ""),
    "InvalidAccessKeyId": (CredentialsRefused, _KEY_HINT),
    "SignatureDoesNotMatch": (CredentialsRefused, _KEY_HINT),
    "InvalidSecurityToken": (CredentialsRefused, _KEY_HINT),
    "SecurityTokenNotSupported": (CredentialsRefused, _KEY_HINT),
    "SecurityTokenExpired": (CredentialsRefused, _EXPIRED),
    "RequestTimeTooSkewed": (CredentialsRefused, _CLOCK),
    "AccessDenied": (CredentialsRefused, _ALLOW),
    "UserDisable": (CredentialsRefused, "OSS is disabled for this account: overdue payments?"),
    "FileAlreadyExists": (PreconditionFailed, ""),
    "ObjectAlreadyExists": (PreconditionFailed, ""),
    "PreconditionFailed": (PreconditionFailed, ""),
    "InvalidDigest": (ChecksumMismatch, ""),
    "InvalidBucketName": (BadConfiguration, "correct the remote's URL"),
    "InvalidObjectName": (BackendError, "OSS takes 1,023 bytes of UTF-8, prefix included: shorten folder or prefix"),
    "InvalidObjectState": (BackendError, "the object is archived: restore it in OSS first"),
    "FileImmutable": (BackendError, "the bucket's retention policy (WORM) forbids to replace or delete it"),
    "EntityTooLarge": (BackendError, "OSS takes 5 GB in one request: make part_size smaller"),
    "EntityTooSmall": (BackendError, "OSS wants parts of 100 KiB at least: make part_size larger"),
    "BucketStorageCapacityExceeded": (NoSpace, "raise the bucket's quota or delete old checkpoints (keep_remote)"),
    "QpsLimitExceeded": (Unavailable, ""),
    "RequestTimeout": (Unavailable, ""),
    "InternalError": (Unavailable, ""),
    "ServiceUnavailable": (Unavailable, ""),
    "ServerBusy": (Unavailable, ""),
    "IncompleteBody": (Unavailable, ""),
    "OperationAborted": (Unavailable, ""),
}

_STATUSES: dict[int, tuple[type[BackendError], str]] = {
    # For answers without a body, or with a code that is not in the table above.
    401: (CredentialsRefused, _KEY_HINT),
    403: (CredentialsRefused, _ALLOW),
    404: (NotFound, ""),
    408: (Unavailable, ""),
    412: (PreconditionFailed, ""),
    429: (Unavailable, ""),
    507: (NoSpace, "the store is full"),
}


def translated(
    where: Where,
    key: str,
    *,
    source: WatchedSource | None = None,
    precondition: type[BackendError] = PreconditionFailed,
) -> AbstractContextManager[None]:
    """See `translated_by`."""
    return translated_by(_from_any, where, key, source=source, precondition=precondition)


def error_code(error: BaseException) -> str:
    """OSS's own code (the status where there is none); empty for anything else."""
    return str(error.code or error.status) if isinstance(error, ServerError) else ""


def _from_any(error: Exception, where: Where, key: str) -> BackendError | None:
    what = where.what(key)
    if isinstance(error, ServerError):
        return _from_answer(error, where, what)
    if isinstance(error, RequestError):
        return _from_wire(error.exception, where, what)
    if isinstance(error, (ClientError, UnicodeError)):
        return BadConfiguration(f"{what}: {error}", hint="check the remote's URL and options")
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)):
        return _from_wire(error, where, what)
    # oss2 raises a bare RuntimeError for XML that is well-formed and not OSS's.
    if isinstance(error, (ET.ParseError, OssError)) or str(error).startswith("parse xml: "):
        return Unavailable(f"{what}: {error}", hint=f"does {where.endpoint} speak OSS?")
    return None


def _from_answer(error: ServerError, where: Where, what: str) -> BackendError:
    code, status = str(error.code or ""), int(error.status)
    text = error.message or http.client.responses.get(status, "")
    request = f" [request {error.request_id}]" if error.request_id else ""
    message = f"{what}: {code or 'refused'} ({status}) {text}".rstrip() + request
    right = error.details.get("Endpoint")
    if code == "AccessDenied" and right:
        own = region_of(right)
        region = f'= "{own}"' if own else "to the bucket's own"
        return BadConfiguration(
            f"{where.url}: this bucket is not served at {where.endpoint}, but at {right}",
            hint=f'set the option region {region}, and endpoint_url, where it is set, to "https://{right}"',
        )
    if code == "InvalidArgument" and "region" in text.lower():
        return BadConfiguration(f"{message}; it was signed for region '{where.region}'", hint=_REGION)
    if code == "RequestTimeTooSkewed":
        message += clock_off(error.headers)
    if code == "NoSuchBucket":
        kind, hint = _CODES[code]
        return kind(f"{where.url}: there is no such bucket at {where.endpoint}", hint=hint)
    kind, hint = _CODES.get(code) or _STATUSES.get(status) or (Unavailable if status >= 500 else BackendError, "")
    return kind(message, hint=hint, retry_after=retry_after(error.headers))


def _from_wire(error: Exception, where: Where, what: str) -> BackendError:
    said = f"{what}: {error}"
    if isinstance(error, requests.exceptions.SSLError) and any(sign in str(error) for sign in TLS_FOR_EVER):
        return BadConfiguration(
            said, hint=f"set ca_bundle to the certificates of {where.endpoint}, or write http:// where it has none"
        )
    if isinstance(error, requests.TooManyRedirects):
        return BadConfiguration(
            f"{what}: {where.endpoint} sends its callers elsewhere",
            hint="set endpoint_url to the bucket's own endpoint",
        )
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidProxyURL)):
        return BadConfiguration(said, hint="check endpoint_url, and the proxy settings of the environment")
    if isinstance(error, requests.ConnectionError):
        return Unavailable(said, hint=f"is endpoint_url right, and is {where.endpoint} reachable from here?")
    return Unavailable(said)
