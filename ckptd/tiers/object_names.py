"""What demoted files are called in the NVMe tier: by the number that the catalog knows them by, and as root by something more.

On a watched volume a job follows its link into the tier by itself: every user may pass through the directory, and an object has
the mode of its file, which others may be allowed to read because a directory above the file keeps them out. So nobody lists the
directory, and names cannot be guessed: who may read the link knows the name, and nobody else does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets

from ckptd.tiers.spilled import is_spilled

_KEY_FILE = "objects.key"
_KEY_BYTES = 32
_DIGITS = 32
"""Hexadecimal ones after the number."""


def name_of(number: int, key: bytes) -> str:
    """`key`: b"" where nobody else is about. What began in the tier has a number that nobody guesses."""
    if not key or is_spilled(number):
        return str(number)
    digest = hashlib.blake2b(str(number).encode(), key=key, digest_size=_DIGITS // 2)
    return f"{number}-{digest.hexdigest()}"


def number_of(name: str) -> int | None:
    """None for what is no object's name. That it is the name of one is for the caller to compare."""
    number = name.partition("-")[0]
    return int(number) if number.isascii() and number.isdecimal() else None


def key_beside(objects: str) -> bytes:
    """The key that belongs to a directory of objects; made when it is first asked for."""
    path = os.path.join(os.path.dirname(objects), _KEY_FILE)
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(fd)
    with open(path, "rb") as file:
        return file.read()
