"""Every error a user can meet, with its exit code and what to do about it.

    CkptdError                 1   a bug or something nobody thought of
    ├── UsageError             2   wrong arguments
    │   └── ConfigError        2   a setting that does not validate; names file, line and key
    ├── DaemonUnreachable      3   no daemon answers on the socket
    ├── NotKnown               4   no such run, checkpoint, volume or operation
    ├── NotInTime              5   still exposed, or not hot, when the time was over
    ├── IntegrityError         6   checksum mismatch, torn checkpoint asked for by step
    │   └── OnlyCopy           6   the action would destroy the only copy
    ├── NotAllowed             7   the peer may not do this
    ├── NoRoom                 8   no tier has room
    │   └── TooMuch             8   a user has as much of something as one user may have
    ├── RemoteError            1   the store refused or cannot be reached (`retryable` says which)
    ├── SourceChanged          1   the file changed while it was read; the newer content is dealt with next
    ├── Busy                   1   a process has the file open; tried again later (`retryable`)
    ├── Conflict               1   something else is at the path that was to be filled
    ├── AlreadyRunning         1   another daemon holds the state directory
    └── StateUnusable          1   catalog disk full, state directory not writable, format too new

Exit codes are the public contract of docs/cli.md. `code` is what the API carries; errno, HTTP status and exit code each
come from one table, keyed by it.
"""

from __future__ import annotations


class CkptdError(Exception):
    exit_code = 1
    code = "unexpected"
    http_status = 500
    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CkptdError):
    exit_code, code, http_status = 2, "usage", 400


class ConfigError(UsageError):
    code = "config"


class DaemonUnreachable(CkptdError):
    exit_code, code, http_status = 3, "unreachable", 503


class NotKnown(CkptdError):
    exit_code, code, http_status = 4, "not-known", 404


class NotInTime(CkptdError):
    exit_code, code, http_status = 5, "not-in-time", 408


class IntegrityError(CkptdError):
    exit_code, code, http_status = 6, "integrity", 409


class OnlyCopy(IntegrityError):
    code = "only-copy"


class NotAllowed(CkptdError):
    exit_code, code, http_status = 7, "not-allowed", 403


class NoRoom(CkptdError):
    exit_code, code, http_status = 8, "no-room", 507


class TooMuch(NoRoom):
    code, http_status = "too-much", 429


class RemoteError(CkptdError):
    """A backend's refusal, wrapped. `backend_code` is the `code` of `backends.errors`."""

    exit_code, code, http_status = 1, "remote", 502

    def __init__(self, message: str, *, hint: str = "", backend_code: str = "backend", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.backend_code = backend_code
        self.retryable = retryable


class SourceChanged(CkptdError):
    code, http_status = "source-changed", 409


class Busy(CkptdError):
    code, http_status = "busy", 409
    retryable = True


class Conflict(CkptdError):
    code, http_status = "conflict", 409


class AlreadyRunning(CkptdError):
    code, http_status = "already-running", 409


class StateUnusable(CkptdError):
    code = "state-unusable"


def _tree(cls: type[CkptdError]) -> list[type[CkptdError]]:
    return [cls] + [found for sub in cls.__subclasses__() for found in _tree(sub)]


BY_CODE: dict[str, type[CkptdError]] = {cls.code: cls for cls in _tree(CkptdError)}
"""From the API's `code` back to the class, for the CLI's exit code."""
