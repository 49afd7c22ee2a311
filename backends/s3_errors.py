"""What S3 stores, boto3 and the wire say, as errors of `backends.errors`: the tables are `_CODES` and `_STATUSES`."""

from __future__ import annotations

import http.client
import re
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions as boto
import botocore.parsers
import urllib3.exceptions

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
from .translation import TLS_FOR_EVER, Where, clock_off, retry_after, translated_by

_KEY_HINT = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile; temporary ones need their AWS_SESSION_TOKEN; and that "
    "they are this endpoint's"
)
_EXPIRED = (
    "the session token has expired: log in again, or renew it in the file of the profile, which is read again by itself; in "
    "AWS_SESSION_TOKEN it takes a restart of the daemon"
)
_NOT_THEIRS = (
    "AWS_SESSION_TOKEN (aws_session_token of the profile) is not these keys': set all three anew (lasting keys: none)"
)
_CLOCK = "S3 takes no request that is more than 15 minutes off: set this machine's clock (chrony, systemd-timesyncd)"
_ALLOW = (
    "these credentials may not do this: they need ListBucket, GetObject, PutObject, DeleteObject here; a bucket of another "
    "account needs a bucket policy for them too"
)
_NONE = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile, or run where an instance role is"

_CODES: dict[str, tuple[type[BackendError], str]] = {
    "NoSuchBucket": (BucketMissing, "create the bucket, or correct the remote's URL"),
    "NoSuchKey": (NotFound, ""),
    "NoSuchVersion": (NotFound, ""),
    "NoSuchUpload": (UploadGone, ""),
    "InvalidPart": (UploadGone, ""),
    "InvalidPartOrder": (UploadGone, ""),
    "InvalidAccessKeyId": (CredentialsRefused, _KEY_HINT),
    "SignatureDoesNotMatch": (CredentialsRefused, _KEY_HINT),
    "InvalidSecurity": (CredentialsRefused, _KEY_HINT),
    "InvalidToken": (CredentialsRefused, _NOT_THEIRS),
    "ExpiredToken": (CredentialsRefused, _EXPIRED),
    "TokenRefreshRequired": (CredentialsRefused, _EXPIRED),
    "RequestExpired": (CredentialsRefused, _EXPIRED),
    "RequestTimeTooSkewed": (CredentialsRefused, _CLOCK),
    "AccessDenied": (CredentialsRefused, _ALLOW),
    "AllAccessDisabled": (CredentialsRefused, _ALLOW),
    "AccountProblem": (CredentialsRefused, _ALLOW),
    "PreconditionFailed": (PreconditionFailed, ""),
    "BadDigest": (ChecksumMismatch, ""),
    "InvalidDigest": (ChecksumMismatch, ""),
    "XAmzContentSHA256Mismatch": (ChecksumMismatch, ""),
    "XAmzContentChecksumMismatch": (ChecksumMismatch, ""),
    "QuotaExceeded": (NoSpace, "raise the store's quota or delete old checkpoints (keep_remote)"),
    "XMinioStorageFull": (NoSpace, "the store's disks are full"),
    "XMinioAdminBucketQuotaExceeded": (NoSpace, "raise the bucket's quota or delete old checkpoints (keep_remote)"),
    "InsufficientStorage": (NoSpace, "the store's disks are full"),
    "InvalidBucketName": (BadConfiguration, "correct the remote's URL"),
    "KeyTooLongError": (BackendError, "S3 takes 1,024 bytes, prefix included: shorten the folder or the prefix"),
    "InvalidObjectState": (BackendError, "the object is archived: restore it in the store first"),
    "SlowDown": (Unavailable, ""),
    "Throttling": (Unavailable, ""),
    "ThrottlingException": (Unavailable, ""),
    "RequestLimitExceeded": (Unavailable, ""),
    "RequestTimeout": (Unavailable, ""),
    "InternalError": (Unavailable, ""),
    "ServiceUnavailable": (Unavailable, ""),
    "OperationAborted": (Unavailable, ""),
    "ConditionalRequestConflict": (Unavailable, ""),
    "IncompleteBody": (Unavailable, ""),
}

_STATUSES: dict[int, tuple[type[BackendError], str]] = {
    # For answers without a body (to HEAD), or with a code of the store's own.
    400: (BackendError, ""),
    401: (CredentialsRefused, _KEY_HINT),
    403: (CredentialsRefused, _ALLOW),
    404: (NotFound, ""),
    408: (Unavailable, ""),
    412: (PreconditionFailed, ""),
    429: (Unavailable, ""),
    501: (BackendError, "this store lacks a part of S3 that is needed"),
    507: (NoSpace, "the store's disks are full"),
}
_REDIRECTS = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
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
    """S3's own code in a ClientError (the status where there is none); empty for anything else."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, boto.ClientError) else ""


def _from_any(error: Exception, where: Where, key: str) -> BackendError | None:
    what = where.what(key)
    if isinstance(error, boto.ClientError):
        return _from_answer(error, where, what)
    for kinds, kind, hint in _LOCAL:
        if isinstance(error, kinds):
            if isinstance(error, boto.SSLError) and not any(sign in str(error) for sign in TLS_FOR_EVER):
                break
            return kind(f"{what}: {error}", hint=hint.format(endpoint=where.endpoint))
    else:
        return None
    return Unavailable(f"{what}: {error}")


def refusal(said: dict[str, Any], what: str, status: int = 0, retry_after: float | None = None) -> BackendError:
    """`said` is the <Error> of an answer, or of one key of `DeleteObjects`."""
    code = str(said.get("Code", ""))
    text = said.get("Message") or http.client.responses.get(status, "")
    kind, hint = _CODES.get(code) or _STATUSES.get(status) or (Unavailable if status >= 500 else BackendError, "")
    return kind(f"{what}: {code}{f' ({status})' if status else ''} {text}".rstrip(), hint=hint, retry_after=retry_after)


def _from_answer(error: boto.ClientError, where: Where, what: str) -> BackendError:
    answer: Any = error.response
    said, meta = answer.get("Error", {}), answer.get("ResponseMetadata", {})
    status, headers = int(meta.get("HTTPStatusCode", 0)), meta.get("HTTPHeaders", {})
    found = refusal(said, what, status, retry_after(headers))
    if said.get("Code") in _REDIRECTS or status in {301, 307, 308}:
        return _elsewhere(said, headers, where, found.message)
    if said.get("Code") == "RequestTimeTooSkewed":
        return _with_message(found, found.message + clock_off(headers))
    if isinstance(found, BucketMissing):
        return _with_message(found, f"{where.url}: there is no such bucket at {where.endpoint}")
    return found


def _with_message(error: BackendError, message: str) -> BackendError:
    error.message, error.args = message, (message,)
    return error


def _elsewhere(said: dict[str, Any], headers: dict[str, str], where: Where, message: str) -> BadConfiguration:
    """boto3 has followed to the region that was named, where that is enough. What is left is an endpoint that cannot serve
    the bucket, or a store that names no region in the way of AWS.
    """
    named = re.search(r"expecting '([\w-]+)'", message)
    region = said.get("Region") or headers.get("x-amz-bucket-region") or (named[1] if named else "")
    hint = f'set the option region = "{region}"' if region else "set the option region to the bucket's own"
    right = str(said.get("Endpoint", "")).removeprefix(f"{urlsplit(where.url).netloc}.")
    if said.get("Code") == "PermanentRedirect" and where.endpoint != "AWS":
        message += f"; it is not served at {where.endpoint}" + (f", but at {right}" if right else "")
        hint += f' and endpoint_url = "https://{right}"' if right else " and endpoint_url to where it is served"
    return BadConfiguration(message, hint=hint)


# In order: the first that fits.
_LOCAL: tuple[tuple[tuple[type[BaseException], ...], type[BackendError], str], ...] = (
    (
        (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError, boto.NoAuthTokenError,
         boto.TokenRetrievalError, boto.SSOError, boto.UnauthorizedSSOTokenError),
        CredentialsRefused, _NONE,
    ),
    ((boto.MetadataRetrievalError,), Unavailable, "the instance's metadata service did not answer"),
    (
        (boto.SSLError,), BadConfiguration,
        'set ca_bundle to the certificates of {endpoint}; verify_tls = "false" only where the network is trusted',
    ),
    ((boto.EndpointConnectionError,), Unavailable, "is endpoint_url right, and is a server up at {endpoint}?"),
    ((boto.ProfileNotFound,), BadConfiguration, "correct the option profile, or add it to ~/.aws/config"),
    (
        (boto.ParamValidationError, boto.NoRegionError, boto.InvalidRegionError, boto.UnknownEndpointError,
         boto.ConfigParseError, boto.InvalidConfigError, boto.InvalidProxiesConfigError, ValueError),
        BadConfiguration, "check the remote's URL and options",
    ),
    (
        (boto.HTTPClientError, boto.ConnectionError, boto.ResponseStreamingError, boto.IncompleteReadError, OSError,
         http.client.HTTPException, urllib3.exceptions.HTTPError),
        Unavailable, "",
    ),
    ((botocore.parsers.ResponseParserError,), Unavailable, "does {endpoint} speak S3?"),
    ((boto.BotoCoreError,), BackendError, ""),
)  # fmt: skip
