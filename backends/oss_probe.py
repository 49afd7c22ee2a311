"""Whether a bucket really refuses to overwrite: one with versions ignores `x-oss-forbid-overwrite`."""

from __future__ import annotations

import uuid
from typing import Any

from oss2.exceptions import ServerError

from .oss_errors import error_code

_BODY = b"ckptd looks whether this bucket refuses to overwrite\n"
_ONCE = {"x-oss-forbid-overwrite": "true"}


def decides_conditions(bucket: Any, prefix: str) -> bool:
    """Proves as well that objects can be written, read, deleted. Raises oss2's errors."""
    name = f"{prefix}.ckptd/probe-{uuid.uuid4().hex}"
    bucket.put_object(name, _BODY, headers=_ONCE)
    try:
        bucket.get_object(name).resp.read()
        bucket.put_object(name, _BODY, headers=_ONCE)
    except ServerError as error:
        if error_code(error) not in {"FileAlreadyExists", "ObjectAlreadyExists"}:
            raise
        return True
    else:
        return False
    finally:
        bucket.delete_object(name)
