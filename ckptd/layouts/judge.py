"""Whether a checkpoint is whole, judged from its files' names and states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ckptd.domain.model import CheckpointState
from ckptd.layouts.frameworks import Layout, Names, base, folder, inside, recognise
from ckptd.layouts.location import TOP, locate, place_of
from ckptd.layouts.names import comparable, lacking, missing_shards
from ckptd.layouts.patterns import UserLayout
from ckptd.layouts.steps import EXTENSIONS
from ckptd.layouts.temporary import UNFINISHED, final_name

PATIENCE = 5
"""How many times the settle time a checkpoint waits for its framework's pointer, which some jobs do not write."""

WHICH_BEFORE = "which the checkpoint before it has"
"""In the one reason for `torn` that is but a guess."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a checkpoint."""

    path: str
    """Relative to the volume."""
    settled: bool
    """Closed by its writer."""
    defect: str | None
    """Why its content is not whole (`inspect.defect_of`)."""
    changed_at: float
    requires: frozenset[str] = frozenset()
    """Names that must be in the same directory (`inspect.required_by`)."""
    added: bool = False
    """It came after the checkpoint was committed, whose own files are as they were: an evaluation, a conversion."""


@dataclass(frozen=True, slots=True)
class Verdict:
    state: CheckpointState
    """WRITING, COMPLETE or TORN."""
    reason: str
    """Why it is torn, or what it still waits for; empty when complete."""
    framework: str
    root: str
    """The checkpoint's directory, or its file: what a training script resumes from. Relative to the volume."""
    wake_at: float | None
    """When to judge again though nothing changes."""


@dataclass(frozen=True, slots=True)
class _Case:
    """What is the same in every verdict on these files."""

    layout: Layout
    root: str
    inside: Mapping[str, str]
    """Names relative to the root, of those that are there to stay, and their paths."""
    names: Names
    """The same for the layouts."""

    @classmethod
    def of(cls, members: Sequence[Member]) -> _Case:
        paths = [member.path for member in members]
        root = root_of(paths)
        cut = 0 if root == TOP else len(root) + 1
        inside = {path[cut:] or base(path): path for path in paths if not locate(path).temporary}
        names = Names.of(inside, root)
        return cls(_own_layout(inside.values()) or recognise(names), root, inside, names)

    def marker(self, members: Sequence[Member]) -> Member | None:
        name = self.layout.marker(self.names)
        return next((member for member in members if member.path == self.inside[name]), None) if name else None

    def writing(self, reason: str, wake_at: float | None) -> Verdict:
        return Verdict(CheckpointState.WRITING, reason, self.layout.name, self.root, wake_at)

    def torn(self, reason: str) -> Verdict:
        return Verdict(CheckpointState.TORN, reason, self.layout.name, self.root, None)

    def complete(self) -> Verdict:
        return Verdict(CheckpointState.COMPLETE, "", self.layout.name, self.root, None)


def _own_layout(paths: Iterable[str]) -> Layout | None:
    """That of a pattern of the configuration, if one locates these files."""
    for path in paths:
        place = place_of(path)
        if place.pattern is not None and place.step is not None:
            return UserLayout(place.pattern, place.step)
    return None


def names_of(members: Iterable[Member]) -> frozenset[str]:
    """To be given as `previous` when the run's next checkpoint is judged."""
    return frozenset(comparable(member.path) for member in members if not locate(member.path).temporary)


def judge(
    members: Sequence[Member],
    *,
    now: float,
    settle_s: float,
    previous: frozenset[str] | None,
    committed_at: float | None = None,
    pointed: bool = False,
    ranks: int | None = None,
) -> Verdict:
    """`members` are all files of one step of one run; `previous` is `names_of` the run's last complete checkpoint;
    `committed_at` is when an older content of this step was committed; `pointed`: a pointer that was written after all of
    them names this step; `ranks`: processes of the job, as its launcher says.

    A marker makes it complete at once, and so does a pointer that is written when all ranks are through; otherwise it must
    have been quiet for `settle_s`, and where a pointer is still to come PATIENCE times as long. What is wrong with it
    counts as torn when it is quiet, and until then as not yet written.
    """
    case = _Case.of(members)
    unsettled = [member for member in members if not member.settled]
    if unsettled or not members:
        return case.writing(f"{_shown(unsettled)} is open" if unsettled else "no file yet", None)
    quiet_at = max(_quiet_at(member, now, settle_s) for member in members)
    marker = case.marker(members)
    trouble = _trouble(members, case, marker, previous, ranks)
    dated = [member for member in members if not _ahead(member, now, settle_s)]
    trouble = trouble or _older_marker(dated, marker, settle_s, committed_at, previous, case)
    if trouble:
        return case.torn(trouble) if quiet_at <= now else case.writing(trouble, quiet_at)
    if marker or (pointed and case.layout.pointer_is_last):
        return case.complete()
    if case.layout.awaits_pointer and not pointed:
        settle_s *= PATIENCE
        quiet_at = max(_quiet_at(member, now, settle_s) for member in members)
    if quiet_at <= now:
        return case.complete()
    return case.writing(f"has no marker: waits until it is quiet for {settle_s:g} s", quiet_at)


def root_of(paths: Sequence[str]) -> str:
    """The step's directory where one carries the step; else the one file, or the directory that several share.

    Files under temporary names count only while there are no others.
    """
    roots = set()
    for path in [path for path in paths if not locate(path).temporary] or paths:
        place = place_of(path)
        roots.add(path if place.at is None else "/".join(path.split("/")[: place.at + 1]))
    if len(roots) == 1:
        return roots.pop()
    parts = [root.split("/") for root in sorted(roots)]
    shared = 0
    while parts and all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return "/".join(parts[0][:shared]) if shared else TOP


def _ahead(member: Member, now: float, settle_s: float) -> bool:
    """The clock was set back since: its time says nothing about what came before and what after."""
    return member.changed_at > now + settle_s


def _quiet_at(member: Member, now: float, settle_s: float) -> float:
    """A change in the future: the clock was set back. Just now, if that is possible; else we would wait for the clock
    to catch up, so it is long ago.
    """
    if _ahead(member, now, settle_s):
        return now
    return min(member.changed_at, now) + settle_s


def _trouble(
    members: Sequence[Member], case: _Case, marker: Member | None, previous: frozenset[str] | None, ranks: int | None
) -> str:
    """Why this cannot be a whole checkpoint, as far as can be told; "" if nothing speaks against it."""
    paths = {member.path for member in members}
    for member in members:
        if member.path.endswith("unfinished") and UNFINISHED.fullmatch(base(member.path)):
            return f"{base(member.path)} says that it is not saved whole"
        if locate(member.path).temporary:
            final = "/".join(final_name(part) for part in member.path.split("/"))
            if marker or final in paths:
                continue  # left behind by a writer that died; another has written the file since
            return f"{base(member.path)} still has its temporary name"
        if member.defect:
            return f"{base(member.path)}: {member.defect}"
        beside = folder(member.path) if member.requires else ""
        if lacks := [name for name in member.requires if inside(beside, name) not in paths]:
            return f"lacks {min(lacks)}, which {base(member.path)} names"
    if marker and len(case.inside) == 1:
        return f"holds nothing but {base(marker.path)}"
    shards = missing_shards(case.inside)
    if shards:
        return f"lacks {base(shards[0])}"
    missing = case.layout.missing(case.names, previous)
    if missing:
        return f"lacks {missing}"
    if not marker and previous:
        indexed = frozenset(folder(comparable(member.path)) for member in members if _indexes_parts(member))
        if absent := lacking(names_of(members), previous, ranks=ranks, indexed=indexed):
            return f"lacks {base(absent[0])}, {WHICH_BEFORE}{_way_out(case)}"
    return ""


def _indexes_parts(member: Member) -> bool:
    return base(member.path) == ".metadata" and bool(member.requires)


def _way_out(case: _Case) -> str:
    """A checkpoint that is no directory has no place for a marker."""
    return "" if case.root == TOP or case.root in case.inside.values() else f": if it is whole, touch {case.root}/.done"


def _older_marker(
    members: Sequence[Member], marker: Member | None, settle_s: float, committed_at: float | None,
    previous: frozenset[str] | None, case: _Case,
) -> str:  # fmt: skip
    """A checkpoint that is written a second time still has the first one's marker while its files are replaced.

    Some write others within moments after their marker; but what was written after a commit is another save. What the
    checkpoint before does not have, where all that it has is older than the marker, is no save at all: a conversion.
    """
    if marker is None:
        return ""
    if previous:
        old = names_of([member for member in members if member.changed_at <= marker.changed_at])
        if previous <= old:
            return ""
    for member in members:
        if member.added:
            continue
        newer = member.changed_at > marker.changed_at + settle_s
        newer = newer or (committed_at is not None and marker.changed_at <= committed_at < member.changed_at)
        if newer and member.path.lower().endswith((*EXTENSIONS, ".distcp")):
            return f"{base(member.path)} was written after the marker {base(marker.path)}{_way_out(case)}"
    return ""


def _shown(members: Sequence[Member]) -> str:
    more = f" and {len(members) - 1} more" if len(members) > 1 else ""
    return base(members[0].path) + more
