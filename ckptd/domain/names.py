"""Names: of checkpoints (`run-42@1200`), of files, and of the keys they have in a remote.

A *relative path* is text as `os.fsdecode` gives it: `/`-separated, relative to the volume, invalid UTF-8 carried as
surrogates. A *key* is what a store accepts and JSON can carry: the path itself wherever that is possible.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ckptd.domain.errors import UsageError

_ESCAPE = re.compile(rb"%(?=[0-9A-F]{2})|[\x00-\x1f\x7f\\]")
_INVALID = re.compile(r"[\udc80-\udcff\ufffe\uffff]")

TAG = r"(?:[A-Za-z_][A-Za-z0-9._-]{0,63}|[0-9]{1,18}[A-Za-z._-][A-Za-z0-9._-]{0,45})"
"""A tag's name: never all digits, so that it is no step, and never a path of its own."""
RESERVED_TAG = "latest"
"""A run's name alone means the newest; a tag of this name would say something else."""


def key_of(path: str) -> str:
    r"""The remote key of a relative path: the path, with only what a store cannot hold percent-encoded.

    Control characters (XML 1.0 listings cannot carry them), backslashes (SeaweedFS stores them as `/`) and bytes that
    are not UTF-8 become `%XX`; a `%` that would read as such an escape becomes `%25`, so that two names never share a
    key. `a b/ü.pt` stays itself, `a\n` is `a%0A`.
    """
    escaped = _ESCAPE.sub(lambda m: b"%%%02X" % m[0][0], os.fsencode(path))
    text = os.fsdecode(escaped)
    return _INVALID.sub(lambda m: "".join(f"%{byte:02X}" for byte in os.fsencode(m[0])), text)


def path_of(key: str) -> str:
    """The inverse of `key_of`."""
    if "%" not in key and key.isascii():
        return key  # nearly all are, and there may be very many
    raw = os.fsencode(key)
    return os.fsdecode(re.sub(rb"%[0-9A-F]{2}", lambda m: unquote_to_bytes(m[0]), raw))


def folder_of(run: str) -> str:
    """A run's folder below `.ckptd/`: its key; but "." (what lies at the top of a volume) is no folder that a store takes."""
    return "%2E" if run == "." else key_of(run)


def check_tag(name: str) -> str:
    """Raises UsageError for what cannot be a tag."""
    if name == RESERVED_TAG:
        raise UsageError(
            f"'{RESERVED_TAG}' cannot be a tag: the newest restorable checkpoint changes by itself",
            hint="a run's name without '@' names the newest",
        )
    if not re.fullmatch(TAG, name):
        raise UsageError(
            f"'{name}' cannot be a tag",
            hint="up to 64 letters, digits, '.', '_' and '-', not digits alone, beginning with a letter, a digit or '_'",
        )
    return name


@dataclass(frozen=True, slots=True, order=True)
class CheckpointId:
    """`run-42@1200` or, by a tag, `run-42@best`; neither: the newest restorable one, or all of a run's, as the command says."""

    run: str
    step: int | None = None
    tag: str | None = None

    def __str__(self) -> str:
        if self.tag is not None:
            return f"{self.run}@{self.tag}"
        return self.run if self.step is None else f"{self.run}@{self.step}"

    @classmethod
    def parse(cls, text: str) -> CheckpointId:
        run, at, name = text.rpartition("@")
        if not at:
            run, name = text, ""
        if not run or "/" in run:
            raise UsageError(f"'{text}' names no run: a run is one folder of the volume", hint="see: ckptctl ls")
        if not at:
            return cls(run)
        if re.fullmatch(r"[0-9]+", name):
            return cls(run, int(name))
        if name != RESERVED_TAG and not re.fullmatch(TAG, name):
            raise UsageError(
                f"'{text}' names no checkpoint: after '@' comes a step number or a tag", hint="e.g. run-42@1200"
            )
        return cls(run, tag=check_tag(name))
