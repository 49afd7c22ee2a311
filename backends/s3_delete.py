"""Deleting many objects, with every key's own answer looked at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from .errors import BackendError, NotFound
from .s3_errors import error_code, refusal, translated
from .translation import Where

_AT_ONCE = 1000
"""The most keys `DeleteObjects` takes."""

# Google's S3 interface has no such call, others insist on Content-MD5: they get one request a key.
_ONE_BY_ONE = {"NotImplemented", "MethodNotAllowed", "MissingContentMD5", "InvalidRequest"}


def delete_all(client: Any, bucket: str, prefix: str, keys: Sequence[str], where: Where) -> None:
    for start in range(0, len(keys), _AT_ONCE):
        batch = keys[start : start + _AT_ONCE]
        wanted = {"Objects": [{"Key": prefix + key} for key in batch], "Quiet": True}
        try:
            with translated(where, batch[0]):
                answer = client.delete_objects(Bucket=bucket, Delete=wanted)
        except BackendError as error:
            if error.__cause__ is None or error_code(error.__cause__) not in _ONE_BY_ONE:
                raise
            for key in batch:
                with suppress(NotFound), translated(where, key):
                    client.delete_object(Bucket=bucket, Key=prefix + key)
            continue
        for failed in answer.get("Errors", ()):
            if failed.get("Code") != "NoSuchKey":
                raise refusal(failed, where.what(failed.get("Key", "").removeprefix(prefix)))
