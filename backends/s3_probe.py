"""What a store really does, found out by asking it: version numbers of S3-compatible stores do not tell."""

from __future__ import annotations

import uuid
from typing import Any

from botocore.exceptions import ClientError

from .errors import BackendError, ChecksumMismatch
from .s3_checksum import Algorithm, wrong_arguments
from .s3_errors import error_code, translated
from .translation import Where

_BODY = b"ckptd looks whether this store compares what it is sent\n"


def verified_checksum(client: Any, where: Where, bucket: str, prefix: str) -> Algorithm:
    """The best kind of checksum the store compares: sent with a wrong one, it must refuse.

    Raises BackendError where the store refuses for another reason, or cannot be reached.
    """
    for algorithm in (Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.MD5):
        key = _probe_key()
        target = {"Bucket": bucket, "Key": prefix + key}
        try:
            with translated(where, key):
                client.put_object(**target, Body=_BODY, **wrong_arguments(algorithm))
                client.delete_object(**target)
        except ChecksumMismatch:
            return algorithm
        except BackendError as error:
            if type(error) is not BackendError:
                raise
            # "Invalid argument", "not implemented": it does not know this kind, and said so.
    return Algorithm.NONE


def decides_conditions(client: Any, bucket: str, prefix: str) -> bool:
    """Whether `If-None-Match: *` holds; proves that objects can be written, read, deleted. Raises botocore's errors."""
    target = {"Bucket": bucket, "Key": prefix + _probe_key()}
    try:
        client.put_object(**target, Body=_BODY, IfNoneMatch="*")
    except ClientError as error:
        if error_code(error) not in {"NotImplemented", "501", "InvalidArgument", "InvalidRequest"}:
            raise
        return False
    try:
        client.get_object(**target)["Body"].read()
        client.put_object(**target, Body=_BODY, IfNoneMatch="*")
    except ClientError as error:
        if error_code(error) not in {"PreconditionFailed", "412"}:
            raise
        return True
    else:
        return False
    finally:
        client.delete_object(**target)


def _probe_key() -> str:
    return f".ckptd/probe-{uuid.uuid4().hex}"
