"""What the backends for object stores share in turning a client library's errors into those of `backends.errors`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from .caller import WatchedSource
from .errors import BackendError, NotSupported, ObjectChanged, PreconditionFailed

TLS_FOR_EVER = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "doesn't match", "unknown ca")
"""Other TLS errors are the wire's."""

_CANNOT_COPY = {"NotImplemented", "MethodNotAllowed", "501", "405"}
_NO_SUCH_RANGE = {"InvalidRange", "416", "InvalidArgument"}
"""AWS and Ceph call a range beyond the origin's end an invalid argument."""


@dataclass(frozen=True, slots=True)
class Where:
    """For messages: what was asked of which remote."""

    url: str
    endpoint: str
    region: str = ""
    """That requests are signed for, where that is told."""

    def what(self, key: str) -> str:
        return f"{self.url.rstrip('/')}/{key}" if key else self.url


Translate = Callable[[Exception, Where, str], BackendError | None]
"""Of an error, where and at which key; None for what is no error of the store's, the library's or the wire's."""


@contextmanager
def translated_by(
    translate: Translate, where: Where, key: str, *, source: WatchedSource | None, precondition: type[BackendError]
) -> Iterator[None]:
    """What the block raises comes out as a BackendError; what the caller's `source` raised comes out as it is.

    `precondition`: what PreconditionFailed means in this call.
    """
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        if source is not None and source.failure is not None:
            # The client library has wrapped it.
            raise source.failure from None
        found = translate(error, where, key)
        if found is None:
            raise
        if isinstance(found, PreconditionFailed) and precondition is not PreconditionFailed:
            found = precondition(found.message, hint=found.hint)
        raise found from error


@contextmanager
def copy_answers(code_of: Callable[[BaseException], str]) -> Iterator[None]:
    """Around `translated_by`: the answers that only copies inside a store get. `code_of` gives the store's own code."""
    try:
        yield
    except BackendError as error:
        code = code_of(error.__cause__ or error)
        if code in _CANNOT_COPY:
            raise NotSupported(error.message, hint="parts that did not change are sent as well") from error
        if code in _NO_SUCH_RANGE:
            raise ObjectChanged(error.message) from error
        raise


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; None where it is not given, or a date, which stores do not send."""
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def clock_off(headers: Mapping[str, str]) -> str:
    """By the `Date` of an answer that just came, how far this machine's clock is from the store's, to be put after a message.

    "too far apart" alone does not tell which of the two to look at, nor whether it is a time zone. Empty without a `Date`.
    """
    try:
        ahead = time.time() - parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        return ""
    minutes = f"{abs(ahead) / 60:.0f} minutes" if abs(ahead) >= 90 else f"{abs(ahead):.0f} s"
    return f"; this machine's clock is {minutes} {'ahead of' if ahead > 0 else 'behind'} the store's"
