"""Patterns of users for home-grown checkpoints: `[[layouts]]` of the configuration. They come before the built-in rules.

`configure` is called once, by the worker, before anything is located.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from ckptd.layouts.frameworks import Layout, Names

STEP = "{step}"
_NUMBER = r"([0-9]{1,18})"


@dataclass(frozen=True)
class Pattern:
    """One `[[layouts]]`. Raises ValueError in `checked` for what cannot be used."""

    name: str
    pattern: str
    """Of paths inside a run: `{step}` once, `*` and `?` within a name, `**` over any number of directories."""
    marker: str = ""
    """A file whose presence completes it, relative to the checkpoint's directory; may hold `{step}` again."""
    requires: tuple[str, ...] = ()
    """Globs relative to the checkpoint's directory; of each at least one file must be there."""
    temporary: tuple[str, ...] = ()
    """Globs of names (of files or directories) that are not to stay."""

    def checked(self) -> Pattern:
        complaint = pattern_complaint(self.pattern)
        complaint = complaint or next(
            (said for one in (self.marker, *self.requires) if (said := inner_complaint(one))), ""
        )
        complaint = complaint or next((said for one in self.temporary if (said := name_complaint(one))), "")
        if complaint:
            raise ValueError(complaint)
        return self

    @cached_property
    def at(self) -> int | None:
        """Which component of the path in the run carries the step; None: the file's name does."""
        parts = self.pattern.split("/")
        at = next(number for number, part in enumerate(parts) if STEP in part)
        return None if at == len(parts) - 1 else at

    @cached_property
    def at_the_top(self) -> bool:
        """The first component carries the step, so that a job may save straight into the volume."""
        return STEP in self.pattern.split("/")[0]

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        above, slash, _ = self.pattern.rpartition("/")
        ways = [_translated(self.pattern)]
        if self.marker and self.at is not None:
            upto = self.pattern.split("/")[: self.at + 1]
            ways.append(_translated("/".join([*upto, self.marker.replace(STEP, "*")])))
        elif STEP in self.marker:
            ways.append(_translated(above + slash + self.marker))
        return re.compile("|".join(ways), re.DOTALL)

    def step_of(self, path: str) -> tuple[int, int | None] | None:
        """The step that a path in the run belongs to, and which of its components says so (None: the file's name)."""
        found = self._regex.fullmatch(path)
        if found is None:
            return None
        group = next(number for number, text in enumerate(found.groups(), start=1) if text is not None)
        carries = path.count("/", 0, found.start(group))
        return int(found[group]), None if carries == path.count("/") else carries

    def is_marker(self, name: str) -> bool:
        return bool(self.marker) and fnmatchcase(name, _base_glob(self.marker))

    def is_temporary(self, name: str) -> bool:
        return any(fnmatchcase(name, glob) for glob in self.temporary)

    def final_name(self, name: str) -> str:
        """Without the fixed part of the glob that it matches: `*.wip` or `wip-*`."""
        for glob in self.temporary:
            if fnmatchcase(name, glob):
                if glob.startswith("*") and not any(sign in glob[1:] for sign in "*?["):
                    return name.removesuffix(glob[1:]) or name
                if glob.endswith("*") and not any(sign in glob[:-1] for sign in "*?["):
                    return name.removeprefix(glob[:-1]) or name
        return name


class UserLayout(Layout):
    """The layout that a pattern of the configuration stands for. Of the built-in markers none counts unless it names none."""

    def __init__(self, pattern: Pattern, step: int) -> None:
        self.name = pattern.name
        self._pattern = pattern
        self._step = step

    def recognises(self, names: Names) -> bool:
        del names
        return True

    def marker(self, names: Names) -> str | None:
        if not self._pattern.marker:
            return super().marker(names)
        glob = re.compile(_translated(self._pattern.marker), re.DOTALL)
        return next((name for name in names.all if self._fits(glob, name)), None)

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        del previous
        for required in self._pattern.requires:
            glob = re.compile(_translated(required), re.DOTALL)
            if not any(self._fits(glob, name) for name in names.all):
                return required.replace(STEP, str(self._step))
        if self._pattern.marker and self.marker(names) is None:
            return self._pattern.marker.replace(STEP, str(self._step))
        return None

    def _fits(self, glob: re.Pattern[str], name: str) -> bool:
        found = glob.fullmatch(name)
        return found is not None and all(int(number) == self._step for number in found.groups())


_active: list[Pattern] = []


def activate(patterns: Iterable[Pattern]) -> None:
    _active[:] = [pattern.checked() for pattern in patterns]


def active() -> Sequence[Pattern]:
    return _active


def pattern_complaint(pattern: str) -> str:
    """Why a pattern cannot be used; "" if it can."""
    if pattern.count(STEP) != 1:
        return f"must hold {STEP} exactly once, got {pattern!r}"
    complaint = inner_complaint(pattern)
    if not complaint and any("**" in part and part != "**" for part in pattern.split("/")):
        return f"** stands alone between slashes, got {pattern!r}"
    return complaint


def name_complaint(glob: str) -> str:
    """Of `temporary`: why it cannot be used; "" if it can."""
    if not glob.strip("*") or "/" in glob:
        return f"must be the pattern of a name, without a slash and not of every name, got {glob!r}"
    return ""


def inner_complaint(path: str) -> str:
    """Of `marker` and `requires`: why it cannot be used; "" if it can."""
    if any(part in {".", ".."} for part in path.split("/")) or path.startswith("/"):
        return f"must be relative and without '..', got {path!r}"
    if path and (path.endswith("/") or "//" in path):
        return f"a directory's content is written {path.rstrip('/')}/**, got {path!r}"
    return f"must hold {STEP} at most once, got {path!r}" if path.count(STEP) > 1 else ""


def _base_glob(path: str) -> str:
    return path.rpartition("/")[2].replace(STEP, "*")


def _translated(pattern: str) -> str:
    parts = pattern.split("/")
    out = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            out.append(".+" if last else "(?:[^/]+/)*")
        else:
            out.append(_name(part) + ("" if last else "/"))
    return "".join(out)


def _name(part: str) -> str:
    signs = {"*": "[^/]*", "?": "[^/]"}
    return _NUMBER.join("".join(signs.get(sign, re.escape(sign)) for sign in piece) for piece in part.split(STEP))
