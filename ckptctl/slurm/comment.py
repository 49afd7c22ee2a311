"""Which run a job names in its comment: `--comment="night shift, ckpt=run-42"`.

The comment is whatever the user typed. What comes out of here goes to the API as data, never to a shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ckptd.domain.errors import UsageError
from ckptd.domain.names import CheckpointId, key_of, path_of

_WORDS = re.compile(r"[\s,;]+")
_PLACEHOLDER = re.compile(r"%([Aaju%])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
LONGEST = 512
"""Characters of `ckpt=…`; the API takes 800 for a name."""


@dataclass(frozen=True, slots=True)
class Named:
    volume: str | None
    """None: the only one that is served."""
    target: str
    """RUN, RUN@STEP or RUN@TAG, as the API takes it."""

    @property
    def run(self) -> str:
        """As a key, too."""
        return CheckpointId.parse(self.target).run


def named(comment: str, values: Mapping[str, str]) -> Named | None:
    """The first `ckpt=[VOLUME:]RUN[@STEP]`; None where there is none. `values`: of the placeholders `%A`, `%a`, `%j`, `%u`.

    Raises UsageError for what cannot be a run.
    """
    word = next((word for word in _WORDS.split(comment) if word.startswith("ckpt=")), None)
    if word is None:
        return None
    if len(word) > LONGEST:
        raise UsageError(f"the comment's ckpt=… has {len(word)} characters; {LONGEST} are read")
    text = _PLACEHOLDER.sub(lambda found: _value(found[1], values), word.removeprefix("ckpt="))
    volume, colon, target = text.partition(":")
    if not colon:
        volume, target = "", text
    if _CONTROL.search(text) or target.startswith("-") or CheckpointId.parse(target).run in (".", ".."):
        raise UsageError(f"the comment's {word!r} names no run")
    return Named(volume or None, key_of(path_of(target)))


def placeholders(comment: str) -> bool:
    """Whether it asks for what only `scontrol` may know."""
    return any(word.startswith("ckpt=") and re.search(r"%[Aa]", word) for word in _WORDS.split(comment))


def _value(letter: str, values: Mapping[str, str]) -> str:
    if letter == "%":
        return "%"
    if letter not in values:
        raise UsageError(f"the comment asks for %{letter}, and this job is no task of an array")
    return values[letter]
