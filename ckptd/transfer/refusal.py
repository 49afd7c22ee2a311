"""How a failure travels from a mover to the worker, and what it is called there.

A mover's failure crosses as a `Refusal` (plain values); the worker raises it as `Refused`, decides about another try,
and at the end turns it into the error of `ckptd.domain.errors` that a user is meant to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ckptd.domain.errors import CkptdError, ConfigError, IntegrityError, NoRoom, RemoteError, SourceChanged

CANCELLED = "cancelled"
SOURCE_CHANGED = "source-changed"
NO_ROOM = "no-room"
LOCAL = "local"
"""Reading or writing a file of this node failed (EIO, EACCES, …)."""
CORRUPT = "corrupt"
"""A local file has other bytes than its checksums say."""
UNKNOWN_SCHEME = "unknown-scheme"
MOVER_DIED = "mover-died"
BUG = "bug"

# Codes of `backends.errors`, by value: only the registry may import that package.
CHECKSUM = "checksum"
UPLOAD_GONE = "upload-gone"
PRECONDITION = "precondition"
NOT_FOUND = "not-found"
BUCKET_MISSING = "bucket-missing"
CONFIGURATION = "configuration"
OBJECT_CHANGED = "object-changed"
NOT_SUPPORTED = "not-supported"
UNAVAILABLE = "unavailable"

_OURS = frozenset({CANCELLED, SOURCE_CHANGED, NO_ROOM, LOCAL, CORRUPT, MOVER_DIED, BUG})


@dataclass(frozen=True, slots=True)
class Refusal:
    code: str
    message: str
    hint: str = ""
    retryable: bool = False
    retry_after: float | None = None

    @property
    def by_store(self) -> bool:
        """The store (or the way to it) refused, not this node."""
        return self.code not in _OURS


class Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.failures = 1
        """Tries that failed, this one included."""


def as_error(refusal: Refusal, what: str) -> CkptdError:
    """`what` names the thing: `remote 'ckpt', key 'run-1/a.pt'`."""
    message = f"{what}: {refusal.message}"
    match refusal.code:
        case "source-changed":
            return SourceChanged(message, hint=refusal.hint)
        case "no-room":
            return NoRoom(message, hint=refusal.hint)
        case "checksum" | "corrupt" | "object-changed":  # the last: it is shorter than what was stored
            return IntegrityError(message, hint=refusal.hint)
        case "configuration" | "unknown-scheme":
            return ConfigError(message, hint=refusal.hint)
        case "local" | "bug" | "cancelled" | "mover-died":
            return CkptdError(message, hint=refusal.hint)
    return RemoteError(message, hint=refusal.hint, backend_code=refusal.code, retryable=refusal.retryable)


@contextmanager
def spoken(what: str) -> Iterator[None]:
    """Turns a Refused that leaves the block into what users know."""
    try:
        yield
    except Refused as refused:
        raise as_error(refused.refusal, what) from refused
