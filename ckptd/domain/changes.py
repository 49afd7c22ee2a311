"""What a front tells the engine: something happened at a path of its volume. Paths are relative (see `names`).

The engine looks at the file itself when it handles a change; a change only says where to look and why.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Opened:
    """A new file appeared and its writer has it open."""

    path: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A file was closed after writing, moved into place from outside, or a symbolic link was made."""

    path: str


@dataclass(frozen=True, slots=True)
class ObjectSettled:
    """A demoted file was written through its link: the NVMe object of catalog file `file` was closed after writing."""

    file: int


@dataclass(frozen=True, slots=True)
class Touched:
    """Mode, owner or times changed; the content perhaps too."""

    path: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A file or a whole directory has a new name inside the volume; what was at `destination` is replaced.

    Of a directory: what is known *below* `source` moves (a file known at `source` itself is another, of a later time).
    A `source` that is not known (it was renamed before its directory was first listed): look at `destination`.
    """

    source: str
    destination: str
    directory: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """A file or a whole directory is gone (or was moved out of the volume)."""

    path: str
    directory: bool


@dataclass(frozen=True, slots=True)
class Scanned:
    """All non-directories found under `root` ("" is the volume): at start, after an overflow, in a new directory tree.

    `complete` False (a tree that is just being made): paths that are not listed may exist all the same, delete nothing.
    """

    root: str
    paths: tuple[str, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """The front sees nothing any more: the volume's directory is gone. Nothing may be concluded about its files."""

    reason: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """The front works on, but less well than promised, until somebody does what `hint` says."""

    message: str
    hint: str


Change = Opened | Settled | ObjectSettled | Touched | Moved | Deleted | Scanned | Lost | Trouble
