"""Keys in stores that are folders (`file://`, `hdfs://`): which may be a file's path, and where unfinished uploads lie."""

from __future__ import annotations

import re
import uuid

from .errors import BadConfiguration, UploadGone

STAGING = ".ckptd/tmp"


def require_key(key: str) -> None:
    """Raises BadConfiguration for a key that would leave the folder or has two spellings."""
    segments = key.split("/")
    if any(segment in {"", ".", ".."} for segment in segments) or "\0" in key:
        raise BadConfiguration(f"'{key}' cannot be the name of an object: '.', '..' and empty parts are not allowed")
    if key == STAGING or key.startswith(STAGING + "/"):
        raise BadConfiguration(f"'{key}' lies among unfinished uploads", hint=f"{STAGING} is not for objects")


def upload_path(root: str, upload_id: str) -> str:
    """Raises UploadGone for what is no id of ours."""
    if not re.fullmatch(r"[0-9a-f]{32}", upload_id):
        raise UploadGone(f"'{upload_id}' is no upload of this store")
    return f"{root}/{STAGING}/{upload_id}"


def new_upload_id() -> str:
    return uuid.uuid4().hex
