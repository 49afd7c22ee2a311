"""Giving a file of a watched directory another place while a job may use it. All synchronous; run it in a thread.

The danger is a writer that we do not see: whatever it writes to a file that we have just unlinked is lost. Three things
together rule that out (`lease` has the means):

1. A lease on the file shows that nobody has it open, and makes whoever opens it now wait.
2. The name is *exchanged*, never overwritten: the old file keeps a private name, the new one is at the path at once.
3. A writer that had looked the path up before the exchange opens the old file; the lease shows it (it is made to
   wait). So we hold the lease for `GRACE_S` more. If it was touched, names are exchanged back and the writer goes on as
   if nothing had been; if not, the old file is unlinked. (Between the end of a path walk and the check of leases the
   kernel does not sleep.)

What remains: a job that renames another file over the path in the very microseconds of an exchange may read the older
content until that is undone (the kernel cannot compare and exchange names), and of two processes that open one file for
writing, one just before and one just after an exchange that is then undone, the second writes to the wrong one.

Paths are given as the volume's root and a relative path; links among the directories on the way are refused.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from ckptd.domain.errors import Busy, Conflict, IntegrityError, NotAllowed, SourceChanged
from ckptd.domain.model import Attributes, Stamp
from ckptd.tiers.attributes import attributes_of, dress, read_origin, stamp_from, stamp_of, write_origin
from ckptd.tiers.beneath import parent_of
from ckptd.tiers.beside import Beside, private_place
from ckptd.tiers.lease import Certainty, Guard, Use, guarded, has_writer, ignore_lease_signals
from ckptd.tiers.rename import How, rename
from ckptd.tiers.stub import is_stub

__all__ = [
    "Certainty", "attributes_of", "has_writer", "ignore_lease_signals", "link_back", "link_in", "link_out",
    "put_in_place", "read_origin", "relink", "remove", "remove_link", "stamp_of", "stub_at", "stub_in", "stub_out",
    "write_origin",
]  # fmt: skip

GRACE_S = 0.01
"""How long an opener may take from looking the path up to its check of leases: microseconds, unless it is preempted."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def link_out(root: str, relative: str, stamp: Stamp, target: str, *, grace_s: float = GRACE_S) -> Certainty:
    """Replaces the regular file by a symbolic link to `target`, an absolute path with a verified copy of it.

    Raises Busy if anybody has it open (or it has other hard links, whose writers we would lose), SourceChanged if it is
    not the content that `stamp` names any more; then nothing has changed.
    """

    def check(found: os.stat_result) -> None:
        if os.stat(target).st_size != stamp.size:
            raise IntegrityError(f"the copy of {relative!r} is not whole", hint="the file stays where it is")
        _refuse_other_names(relative, found)

    return _leave_link(root, relative, stamp, target, grace_s, check=check)


def stub_out(
    root: str, relative: str, stamp: Stamp, stub: str, *, demoted_to: str | None = None, grace_s: float = GRACE_S
) -> Certainty:
    """Replaces the regular file, whose content is safe elsewhere, by its stub (`tiers.stub`). Errors as `link_out`.

    `demoted_to`: the file is there, and our link to it at the path; both go.
    """
    return _leave_link(root, relative, stamp, stub, grace_s, demoted_to=demoted_to)


def _leave_link(
    root: str, relative: str, stamp: Stamp, link: str, grace_s: float, *, demoted_to: str | None = None,
    check: Callable[[os.stat_result], None] = lambda _: None,
) -> Certainty:  # fmt: skip
    """A link in the place of the file, or of our link to it. `check` may raise while nothing has changed."""
    with (
        _parent(root, relative) as (parent, name),
        _opened(parent, name if demoted_to is None else demoted_to, stamp) as fd,
        private_place(parent, name) as beside,
    ):
        owner = os.fstat(fd)
        beside.make_link(link, owner.st_uid, owner.st_gid)
        try:
            with guarded(fd, Use.ANY) as guard:
                found = _unchanged(fd, stamp)
                check(found)
                expected = found if demoted_to is None else beside.link_to(demoted_to)
                _exchange(beside, expected, guard, fd, stamp, grace_s)
                if demoted_to is not None:
                    os.unlink(demoted_to)
                beside.discard()  # what was at the path
                return guard.certainty
        except BaseException:
            beside.discard()  # the link
            raise


def stub_in(root: str, relative: str, stub: str, owner: tuple[int, int]) -> None:
    """Makes a stub where nothing is, and directories that are missing. Raises Conflict where a link or a file is in the way."""
    with parent_of(root, relative, make=True, owner=owner) as (parent, name), suppress(FileExistsError):
        os.symlink(stub, name, dir_fd=parent)
        if os.geteuid() == 0:
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)


def stub_at(root: str, relative: str) -> str | None:
    """The stub at a path; None where anything else is, or nothing."""
    with suppress(OSError, Conflict), parent_of(root, relative) as (parent, name):
        target = os.readlink(name, dir_fd=parent)
        return target if is_stub(target) else None
    return None


def remove(root: str, relative: str, stamp: Stamp, *, grace_s: float = GRACE_S) -> Certainty:
    """Removes the regular file, whose content is safe elsewhere, with the same care and errors as `link_out`."""
    with (
        _parent(root, relative) as (parent, name),
        _opened(parent, name, stamp) as fd,
        private_place(parent, name) as beside,
        guarded(fd, Use.ANY) as guard,
    ):
        _take_aside(beside, _unchanged(fd, stamp), guard, fd, stamp, grace_s)
        beside.discard()
        return guard.certainty


def remove_link(root: str, relative: str, target: str, stamp: Stamp, *, grace_s: float = GRACE_S) -> Certainty:
    """Removes our link and the file `target` that it leads to and that `stamp` names. Errors as `link_out`."""
    with (
        _parent(root, relative) as (parent, name),
        _opened(None, target, stamp) as fd,
        private_place(parent, name) as beside,
        guarded(fd, Use.ANY) as guard,
    ):
        _unchanged(fd, stamp)
        _take_aside(beside, beside.link_to(target), guard, fd, stamp, grace_s)
        os.unlink(target)
        beside.discard()
        return guard.certainty


def relink(
    root: str,
    relative: str,
    staged: str,
    target: str,
    stamp: Stamp,
    attributes: Attributes,
    *,
    grace_s: float = GRACE_S,
) -> Stamp:
    """Replaces our link to `target` by the regular file `staged`, a verified copy of it on the volume's file system.

    Returns the stamp of the file now at the path. `target` (of which `stamp` is) stays: unlinking it is the caller's.
    Who reads it goes on reading. Busy if anybody has it open for writing, SourceChanged if the link or the content is
    not the expected one; then `staged` is back where it was.
    """
    with (
        _parent(root, relative) as (parent, name),
        _opened(None, target, stamp) as fd,
        private_place(parent, name) as beside,
    ):
        done = dress(staged, attributes)
        beside.bring(staged)
        try:
            with guarded(fd, Use.WRITING) as guard:
                _unchanged(fd, stamp)
                _exchange(beside, beside.link_to(target), guard, fd, stamp, grace_s)
                beside.discard()  # the link
                return done
        except BaseException:
            beside.send_back(staged)
            raise


def put_in_place(
    staged: str, root: str, relative: str, attributes: Attributes, *, replacing: str | None = None
) -> Stamp:
    """Moves the finished file `staged` to the path, with its attributes, making directories that are missing.

    Raises Conflict if anything is there, except a link to `replacing` that leads nowhere: ours, of a lost file.
    """
    with parent_of(root, relative, make=True, owner=(attributes.uid, attributes.gid)) as (parent, name):
        done = dress(staged, attributes)
        try:
            rename(staged, name, How.NOREPLACE, target_dir=parent)
        except FileExistsError as error:
            with private_place(parent, name) as beside:
                if replacing is None or os.path.lexists(replacing):
                    raise _taken(relative) from error
                try:
                    link = beside.link_to(replacing)
                    beside.bring(staged)
                    beside.exchange(expected=link)
                except SourceChanged as changed:
                    beside.send_back(staged)
                    raise _taken(relative) from changed
                beside.discard()
        return done


def link_in(root: str, relative: str, target: str, *, replacing: str | None = None) -> None:
    """Makes a link to our file `target` at the path, owned as that is, and directories that are missing.

    An equal link is fine, and one to `replacing` is replaced; anything else there is a Conflict.
    """
    found = os.stat(target)
    link_back(root, relative, target, found.st_uid, found.st_gid, replacing=replacing)


def link_back(root: str, relative: str, target: str, uid: int, gid: int, *, replacing: str | None = None) -> None:
    """The same with a link of the job's own: where it leads, and whether it leads anywhere, is the job's business."""
    with (
        parent_of(root, relative, make=True, owner=(uid, gid)) as (parent, name),
        private_place(parent, name) as beside,
    ):
        beside.make_link(target, uid, gid)
        try:
            beside.put()
        except FileExistsError as error:
            if replacing is not None:
                with suppress(SourceChanged):
                    beside.exchange(expected=beside.link_to(replacing))
                    beside.discard()  # the other link
                    return
            beside.discard()
            with suppress(SourceChanged):
                beside.link_to(target)
                return
            raise _taken(relative) from error


# --- opening and checking ---------------------------------------------------------------------------------------


@contextmanager
def _parent(root: str, relative: str) -> Iterator[tuple[int, str]]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(parent_of(root, relative))
        except FileNotFoundError as error:
            raise SourceChanged(f"{relative!r} is not there any more") from error
        yield opened


@contextmanager
def _opened(parent: int | None, name: str, stamp: Stamp) -> Iterator[int]:
    try:
        fd = os.open(name, _OPEN, dir_fd=parent)
    except FileNotFoundError as error:
        raise SourceChanged(f"{name!r} is not there any more") from error
    except PermissionError as error:
        raise NotAllowed(f"{name!r}: {error.strerror}", hint="let the daemon's user read it") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SourceChanged(f"{name!r} is a link by now") from error
        raise
    try:
        _unchanged(fd, stamp)
        yield fd
    finally:
        os.close(fd)


def _unchanged(fd: int, stamp: Stamp) -> os.stat_result:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or stamp_from(found) != stamp:
        raise SourceChanged("the file has other content by now")
    return found


def _refuse_other_names(relative: str, found: os.stat_result) -> None:
    if found.st_nlink > 1:
        raise Busy(f"{relative!r} has other hard links", hint="it stays where it is")


def _settle(guard: Guard, fd: int, stamp: Stamp, grace_s: float) -> None:
    """The moments in which a writer that came too late shows itself. (A reader that did reads what it has opened.)

    Most have come between the taking of the lease and the exchange, and show at once: while we hesitate to give the old
    file back, the job may write to the new one.
    """
    guard.check()
    time.sleep(grace_s)
    guard.check()
    _unchanged(fd, stamp)


def _exchange(beside: Beside, expected: os.stat_result, guard: Guard, fd: int, stamp: Stamp, grace_s: float) -> None:
    beside.exchange(expected=expected)
    try:
        _settle(guard, fd, stamp, grace_s)
    except BaseException:
        beside.give_back()
        raise


def _take_aside(beside: Beside, expected: os.stat_result, guard: Guard, fd: int, stamp: Stamp, grace_s: float) -> None:
    beside.take(expected=expected)
    try:
        _settle(guard, fd, stamp, grace_s)
    except BaseException:
        beside.put_back()
        raise


def _taken(relative: str) -> Conflict:
    return Conflict(f"something else is at {relative!r} already", hint="what the job wrote there stays")
