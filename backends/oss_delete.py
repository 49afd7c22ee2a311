"""Deleting many objects of OSS, with every key's own answer looked at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from .errors import CredentialsRefused, NotFound
from .oss_connection import OssConnection

_AT_ONCE = 1000
"""The most keys `DeleteMultipleObjects` takes."""


def delete_all(connection: OssConnection, prefix: str, keys: Sequence[str]) -> None:
    """The answer lists what is gone, absent keys included; what it leaves out was refused, without a reason."""
    plain = [key for key in keys if not _beyond_xml(key)]
    for start in range(0, len(plain), _AT_ONCE):
        batch = plain[start : start + _AT_ONCE]
        with connection.calling(batch[0]):
            answer = connection.bucket.batch_delete_objects([prefix + key for key in batch])
        left = set(batch) - {name.removeprefix(prefix) for name in answer.deleted_keys}
        if left:
            some = min(left)
            raise CredentialsRefused(
                f"{connection.where.what(some)} was not deleted (nor were {len(left) - 1} others)",
                hint="these credentials need oss:DeleteObject, and a retention policy (WORM) may hold it",
            )
    for key in keys:
        if _beyond_xml(key):
            with suppress(NotFound), connection.calling(key):
                connection.bucket.delete_object(prefix + key)


def _beyond_xml(key: str) -> bool:
    """XML has no way to write these."""
    return any(ord(sign) < 32 or ord(sign) in {0xFFFE, 0xFFFF} for sign in key)
