"""What is at a path now, and what that means to the engine. The disk may be ahead of the event: later ones tell the rest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ckptd.domain.changes import Deleted, Opened, Settled, Touched
from ckptd.fronts.watch.steps import Explore, Look, PassOver, Step, Why
from ckptd.tiers.lease import has_writer


def outcome(root: str, look: Look) -> Iterator[Step]:
    path, why = look.path, look.why
    full = os.path.join(root, path)
    try:
        found = os.lstat(full)
    except OSError:
        if why is Why.GONE:
            yield Deleted(path, directory=False)
        elif why is Why.CLOSED:
            yield Settled(path)  # renamed meanwhile: its Moved follows, and it is a settled file that moves
        return
    if stat.S_ISDIR(found.st_mode):
        if why is Why.GONE:
            yield Deleted(path, directory=False)
        if why in {Why.GONE, Why.LEFT}:
            yield Explore(path)
    elif not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
        yield PassOver(path)
        if why in {Why.ARRIVED, Why.MOVED, Why.GONE}:
            yield Deleted(path, directory=False)
    elif why is Why.TOUCHED:
        yield Touched(path)
    elif why is Why.MOVED:
        if has_writer(full) is not True:
            yield Settled(path)
    elif why in {Why.CLOSED, Why.ARRIVED} or _is_whole(full, found):
        yield Settled(path)
    else:
        yield Opened(path)


def _is_whole(path: str, found: os.stat_result) -> bool:
    """Whether a name that just appeared belongs to a file nobody writes: a symbolic or hard link, or one that was
    written without a name (O_TMPFILE) and linked. An empty one with a single name is about to be written.
    """
    if stat.S_ISLNK(found.st_mode):
        return True
    if found.st_nlink == 1 and found.st_size == 0:
        return False
    writer = has_writer(path)
    return not writer if writer is not None else found.st_nlink > 1
