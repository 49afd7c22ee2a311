"""Whether a remote answers, as its transfers see it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ckptd.transfer.refusal import CHECKSUM, CONFIGURATION, UNKNOWN_SCHEME, Refusal

_NO_SPACE = "no-space"
_OF_THE_REMOTE = frozenset({CONFIGURATION, UNKNOWN_SCHEME, "bucket-missing", "credentials", _NO_SPACE})
"""Refusals that concern everything in the remote, not one object; asking again does not help until somebody acts."""


@dataclass(frozen=True, slots=True)
class Health:
    ok: bool
    error: str = ""
    since: float | None = None
    """Seconds since the epoch of the first failure of the present row; None while all is well."""
    needs_somebody: bool = False
    """Credentials, bucket, options, space: it does not get better by waiting."""
    hint: str = ""
    full: bool = False
    """It answers, and takes small things perhaps; what it lacks is space."""


WELL = Health(ok=True)
ROW_S = 5.0
"""Retries go on for half a minute: an operator need not wait that long to hear of it."""


class HealthBook:
    """A failure that a retry heals does not count; `unreachable` is said when the retries were used up, or when for
    `ROW_S` nothing at all has succeeded.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._health: dict[str, Health] = {}
        self._failing_since: dict[str, float] = {}

    def get(self, remote: str) -> Health:
        return self._health.get(remote, WELL)

    def answered(self, remote: str) -> None:
        """The store did what was asked, or refused in a way that proves it is there."""
        self._health.pop(remote, None)
        self._failing_since.pop(remote, None)

    def failed(self, remote: str, refusal: Refusal, *, given_up: bool) -> None:
        """One try failed. Refusals about a single object prove that the store answers."""
        if not refusal.by_store:
            return
        lasting = refusal.code in _OF_THE_REMOTE
        if refusal.code == CHECKSUM or not (lasting or refusal.retryable):
            self.answered(remote)
            return
        now = self._clock()
        since = self._failing_since.setdefault(remote, now)
        if given_up or lasting or now - since >= ROW_S or remote in self._health:
            full = refusal.code == _NO_SPACE
            self._health[remote] = Health(False, refusal.message, since, lasting, refusal.hint, full)
