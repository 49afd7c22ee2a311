"""Which uploads go together: of a checkpoint of very many small files each message and each transaction would cost more than
the bytes. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ckptd.catalog import FileRow
from ckptd.policy.actions import Upload

SMALL = 64 << 10
"""Bytes. Larger ones have progress worth showing, and may be copied inside the remote instead of being sent."""
MOST = 32
"""Files in a group: as many are sent again where the job writes one of them anew meanwhile."""
GROUPS = 32
"""Into so many at least are few files divided: several are sent at a time."""


def grouped(
    uploads: Sequence[Upload], row_of: Callable[[int], FileRow | None], together: Callable[[int], bool]
) -> Iterator[list[Upload]]:
    """In the order given. `together`: False for those that are to go by themselves."""
    most = min(MOST, len(uploads) // GROUPS)
    group: list[Upload] = []
    party: tuple[str, int] | None = None  # volume and owner: users take turns
    for upload in uploads:
        row = row_of(upload.file) if most > 1 and together(upload.file) else None
        if row is None or row.size > SMALL:
            yield [upload]
            continue
        if group and (len(group) >= most or (row.volume, row.attributes.uid) != party):
            yield group
            group = []
        group.append(upload)
        party = row.volume, row.attributes.uid
    if group:
        yield group
