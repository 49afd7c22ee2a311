"""`[[layouts]]`: what home-grown checkpoints look like."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ckptd.layouts import Pattern
from ckptd.layouts.patterns import inner_complaint, name_complaint, pattern_complaint

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"a name consists of letters, digits, '.', '_' and '-', at most 64 of them, got {text!r}")
    return text


def _pattern(text: str) -> str:
    return _accepted(text, pattern_complaint(text))


def _inner(text: str) -> str:
    return _accepted(text, inner_complaint(text))


def _temporary(text: str) -> str:
    return _accepted(text, name_complaint(text))


def _accepted(text: str, complaint: str) -> str:
    if complaint:
        raise ValueError(complaint)
    return text


class LayoutSettings(BaseModel):
    """One of `[[layouts]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, AfterValidator(_name)] = Field(
        description="What `ckptctl ls` shows as the framework of such a checkpoint."
    )
    pattern: Annotated[str, AfterValidator(_pattern)] = Field(
        description="Which files belong to it: a path inside the run, with `{step}` once for the number, `*` and `?` within "
        "a name, and `**` for any number of directories, e.g. `snapshots/snap_{step}/**` or `weights-{step}.dat`."
    )
    marker: Annotated[str, AfterValidator(_inner)] = Field(
        default="",
        description="The file that is written last, relative to the checkpoint's directory; may hold `{step}`. Without it the "
        "checkpoint is not complete. Default: none, it is complete when it is quiet.",
    )
    requires: list[Annotated[str, AfterValidator(_inner)]] = Field(
        default_factory=list,
        description="Patterns relative to the checkpoint's directory; of each at least one file must be there.",
    )
    temporary: list[Annotated[str, AfterValidator(_temporary)]] = Field(
        default_factory=list,
        description="Names (of files or directories) that are renamed or deleted later and never uploaded, e.g. `*.wip`. "
        "They count in the whole volume.",
    )

    def to_pattern(self) -> Pattern:
        return Pattern(self.name, self.pattern, self.marker, tuple(self.requires), tuple(self.temporary))
