"""What a store can answer that is not success.

    BackendError                    something the store or the way to it said; `retryable` tells whether to ask again
    ├── NotFound                    no such object (reading); deleting an absent object is not an error
    ├── BucketMissing               the container itself (bucket, directory, file system) is not there
    ├── CredentialsRefused          none found, wrong, expired, or not allowed to do this
    ├── PreconditionFailed          `if_absent`/`if_match` did not hold: somebody else wrote first
    ├── ChecksumMismatch            the store received (or gave) other bytes than were meant       [retryable]
    ├── ObjectChanged               the object is not the version that was asked for any more
    ├── UploadGone                  the multipart upload is not known (expired, aborted, finished)
    ├── NoSpace                     the store is full or over quota
    ├── NotSupported                this store lacks the call, or what it answers proves nothing: never worth asking again
    ├── BadConfiguration            URL or option cannot work; the hint says which and how
    └── Unavailable                 time-outs, resets, 5xx, throttling: nobody's fault, try again  [retryable]

Backends know nothing of ckptd, so this tree is theirs; `ckptd.domain.errors` wraps it for users.
"""


class BackendError(Exception):
    """A store's refusal. `code` is stable and machine-readable, `hint` tells a person what to do."""

    retryable: bool = False
    code: str = "backend"

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after = retry_after
        """Seconds the store asked us to wait (`Retry-After`), if it did."""


class NotFound(BackendError):
    code = "not-found"


class BucketMissing(BackendError):
    code = "bucket-missing"


class CredentialsRefused(BackendError):
    code = "credentials"


class PreconditionFailed(BackendError):
    code = "precondition"


class ChecksumMismatch(BackendError):
    code = "checksum"
    retryable = True


class ObjectChanged(BackendError):
    code = "object-changed"


class UploadGone(BackendError):
    code = "upload-gone"


class NoSpace(BackendError):
    code = "no-space"


class NotSupported(BackendError):
    code = "not-supported"


class BadConfiguration(BackendError):
    code = "configuration"


class Unavailable(BackendError):
    code = "unavailable"
    retryable = True


BY_CODE: dict[str, type[BackendError]] = {
    cls.code: cls
    for cls in (
        BackendError, NotFound, BucketMissing, CredentialsRefused, PreconditionFailed, ChecksumMismatch,
        ObjectChanged, UploadGone, NoSpace, NotSupported, BadConfiguration, Unavailable,
    )
}  # fmt: skip
"""For carrying an error between processes: its code and message cross, the class is found again here."""
