"""A manifest put aside, because objects that it describes are not what it says.

It lies beside the place it had, as `<node>.json.quarantined`: the same JSON with a note before it. Nobody offers the
checkpoint then; whoever still has good bytes can put them back, and the manifest after them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ckptd.domain.errors import IntegrityError

_HEAD = '{"quarantined":'


@dataclass(frozen=True, slots=True)
class Note:
    by: str
    """The node that found it."""
    at: float
    """Seconds since the epoch, by that node's clock."""
    reason: str
    """What is wrong, for people."""
    keys: tuple[str, ...]
    """The objects that are bad."""


def with_note(text: str, note: Note) -> str:
    """The manifest `text` as it lies in quarantine."""
    marked = {"by": note.by, "at": round(note.at, 3), "reason": note.reason, "keys": list(note.keys)}
    return f"{_HEAD}{json.dumps(marked, separators=(',', ':'))},{text[1:]}"


def note_of(text: str) -> Note | None:
    """The note, if the manifest is in quarantine. Raises IntegrityError for a note that cannot be read."""
    if not text.startswith(_HEAD):
        return None
    try:
        marked, _ = json.JSONDecoder().raw_decode(text, len(_HEAD))
        return Note(str(marked["by"]), float(marked["at"]), str(marked["reason"]), tuple(map(str, marked["keys"])))
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"the note of a manifest in quarantine cannot be read: {error!r}") from error
