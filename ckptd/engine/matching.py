"""Whether what lies here is what a manifest describes."""

from __future__ import annotations

from ckptd.catalog import FileRow
from ckptd.manifest import ManifestEntry


def matches(row: FileRow, entry: ManifestEntry | None) -> bool:
    """Whether the row's present content is what the manifest describes."""
    if entry is None or not row.closed:
        return False
    if row.link is not None or entry.link is not None:
        return row.link == entry.link
    return (
        row.checksums is not None
        and entry.checksums is not None
        and row.checksums.whole == entry.checksums.whole
        and row.size == entry.size
    )


def differs(row: FileRow, entry: ManifestEntry) -> bool | None:
    """The other way round, where checksums may still be missing. None: not to be told before the content was read."""
    if matches(row, entry):
        return False
    if not row.closed or row.link is not None or entry.link is not None:
        return True
    return None if row.checksums is None and row.size == entry.size else True
