"""How keys and uploads lie in a directory.

<root>/run-42/checkpoint-1200/model.safetensors    key `run-42/checkpoint-1200/model.safetensors`
<root>/.ckptd/tmp/<uuid>                           an upload in parts; its name is the upload id
<root>/.ckptd/tmp/<uuid>.key                       the key it is meant for: made before it, removed after it
<root>/.ckptd/tmp/put-<uuid>                       a small object on its way: left over only by a crash
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from .base import ObjectInfo
from .errors import BadConfiguration
from .folders import STAGING, require_key


def root_of(url: str) -> str:
    """The absolute directory a `file://` URL names."""
    parts = urlsplit(url, allow_fragments=False)
    if parts.scheme != "file":
        raise BadConfiguration(f"'{url}' is not a file:// URL")
    if parts.netloc not in {"", "localhost"}:
        raise BadConfiguration(
            f"'{url}' names a host ('{parts.netloc}')", hint=f"three slashes: file:///{parts.netloc}{parts.path}"
        )
    path = unquote(parts.path + (f"?{parts.query}" if parts.query else ""), errors="surrogateescape")
    if not path.startswith("/") or "\0" in path:
        raise BadConfiguration(f"'{url}' names no absolute directory", hint="e.g. file:///mnt/lustre/checkpoints")
    if ".." in path.split("/"):
        raise BadConfiguration(f"'{url}' contains '..'", hint="write the directory's own path")
    return os.path.normpath(path.replace("//", "/"))


def path_of(root: str, key: str) -> str:
    """The file of a key. BadConfiguration for a key that would leave the directory or has two spellings."""
    require_key(key)
    return f"{root}/{key}"


def info_of(key: str, status: os.stat_result, crc64nvme: int | None = None) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, etag_of(status), status.st_mtime_ns / 1e9, crc64nvme)


def etag_of(status: os.stat_result) -> str:
    """A version: every content is written to a file of its own, so the next has another inode or a later time."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def walk(root: str, prefix: str, start_after: str) -> Iterator[tuple[str, os.stat_result]]:
    """Keys and their files' status, in the order of the keys' UTF-8, as S3 lists. OSError if the root cannot be read.

    Links to files count as objects; links to directories are not entered (they may form a circle).
    """
    os.stat(root)  # an absent folder lists as empty, an absent root does not
    folder = prefix.rpartition("/")[0]
    yield from _walk(root, folder, prefix, _order(start_after))


def _order(key: str) -> bytes:
    return os.fsencode(key)


def _walk(root: str, folder: str, prefix: str, after: bytes) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(f"{root}/{folder}" if folder else root) as entries:
            found = [(f"{folder}/{entry.name}" if folder else entry.name, entry) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return  # deleted meanwhile, or no object has this prefix
    named = [(key + "/", entry) if entry.is_dir(follow_symlinks=False) else (key, entry) for key, entry in found]
    for key, entry in sorted(named, key=lambda pair: _order(pair[0])):
        if key.endswith("/"):
            if key == STAGING + "/" or not (key.startswith(prefix) or prefix.startswith(key)):
                continue
            if _order(key) > after or after.startswith(_order(key)):
                yield from _walk(root, key[:-1], prefix, after)
        elif key.startswith(prefix) and _order(key) > after:
            try:
                status = entry.stat()
            except OSError:
                continue  # deleted meanwhile, or a link that leads nowhere
            if stat.S_ISREG(status.st_mode):
                yield key, status
