"""What the translation of events asks the front to do. Everything that is not one of these is a Change to report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ckptd.domain.changes import Change


class Why(StrEnum):
    """Why a path is looked at."""

    CREATED = "created"  # a name appeared: a writer has it open, or it is a link, a fifo, …
    CLOSED = "closed"  # closed after writing
    ARRIVED = "arrived"  # moved in from where we do not watch
    MOVED = "moved"  # reported as moved; but what was known of its source may be out of date, or of another file
    TOUCHED = "touched"  # mode, owner or times
    LEFT = "left"  # moved away, but something else may have taken the name in the same system call (RENAME_EXCHANGE)
    GONE = "gone"  # moved to where we do not watch, unless something else has taken the name


@dataclass(frozen=True, slots=True)
class Look:
    """Find out what is at `path` and report it."""

    path: str
    why: Why


@dataclass(frozen=True, slots=True)
class Explore:
    """Watch the directory at `path` and all below it, then list them, and hand the result to `Translator.explored`."""

    path: str
    believed: int | None = None
    """The watch that the tree has for it, if it was moved here."""


@dataclass(frozen=True, slots=True)
class Unwatch:
    watches: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rescan:
    """Events were lost: watch and list everything again."""


@dataclass(frozen=True, slots=True)
class PassOver:
    """A fifo, socket or device: said once, then ignored."""

    path: str


Step = Change | Look | PassOver | Explore | Unwatch | Rescan
