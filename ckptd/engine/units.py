"""What the rows mean: checkpoints with their states. Pure; everything here is derived anew from rows and manifests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ckptd.catalog import FileRow, UnitName
from ckptd.catalog.nodes import Withdrawal
from ckptd.domain.launch import Launch
from ckptd.domain.model import CheckpointState
from ckptd.domain.names import path_of
from ckptd.engine import parts
from ckptd.engine.known import Committed, UnitKey
from ckptd.engine.matching import matches
from ckptd.engine.several import Before
from ckptd.engine.unit import Unit, added_to, members_of
from ckptd.layouts import Member, Verdict, judge, locate
from ckptd.layouts.judge import WHICH_BEFORE, root_of
from ckptd.layouts.names import kind_of
from ckptd.policy.policy import Policy
from ckptd.policy.timeline import Written, superseded

MANY_ROWS = 2000
"""What follows from more takes longer (40 us each) than others should have to wait: it is derived in a thread."""

_NONE_WENT: Mapping[str, Withdrawal] = {}


def assemble(
    rows: Iterable[FileRow],
    known: Iterable[tuple[UnitName, Committed]],
    policy_of: Mapping[tuple[str, str], Policy],
    now: float,
    before: Mapping[tuple[str, str, int | None], Unit] | None = None,
    *,
    node: str = "",
    launches: Mapping[UnitKey, Launch] | None = None,
    withdrawn: Mapping[UnitKey, Mapping[str, Withdrawal]] | None = None,
) -> list[Unit]:
    """Units by volume and run, in each run by step (loose files first, then what is superseded).

    `node`: whose rows these are. `launches`: how their jobs were launched; `withdrawn`: manifests that went.
    `before`: an earlier answer by key; a unit of which nothing changed is taken from there, which keeps a look at
    thousands of files at rest cheap.
    """
    grouped: dict[UnitName, list[FileRow]] = defaultdict(list)
    for row in rows:
        grouped[row.unit].append(row)
    return assemble_units(grouped, known, policy_of, now, before, node=node, launches=launches, withdrawn=withdrawn)


def assemble_units(
    rows: Mapping[UnitName, Sequence[FileRow]],
    known: Iterable[tuple[UnitName, Committed]],
    policy_of: Mapping[tuple[str, str], Policy],
    now: float,
    before: Mapping[UnitName, Unit] | None = None,
    *,
    node: str = "",
    launches: Mapping[UnitKey, Launch] | None = None,
    withdrawn: Mapping[UnitKey, Mapping[str, Withdrawal]] | None = None,
) -> list[Unit]:
    """The same of rows by unit. Where the rows of a unit are the same object as in `before`, they are not looked at."""
    committed: dict[UnitName, Committed] = dict(known)
    before = before or {}
    runs: dict[tuple[str, str], list[UnitName]] = defaultdict(list)
    for name in rows:
        runs[name[:2]].append(name)
    for name in committed:
        if name not in rows:
            runs[name[:2]].append(name)
    ordered = []
    for key in sorted(runs):
        units = []
        for name in sorted(runs[key], key=_step):
            its: UnitKey = (*key, _step(name))
            launch = launches.get(its) if launches else None
            went = withdrawn.get(its, _NONE_WENT) if withdrawn else _NONE_WENT
            units.append(_unit(name, rows.get(name, ()), committed.get(name), launch, went, before.get(name)))
        ordered += _judge_run(units, policy_of[key], now, before, node)
    return ordered


def _step(name: UnitName) -> int:
    return -1 if name[2] is None else name[2]


def _unit(
    name: UnitName, rows: Sequence[FileRow], committed: Committed | None, launch: Launch | None,
    went: Mapping[str, Withdrawal], kept: Unit | None,
) -> Unit:  # fmt: skip
    """`kept`, where it was made of the same: rows and manifests are replaced, never changed."""
    if kept is None:
        return Unit(*name, rows, committed, launch=launch, went=went)
    same_rows = kept.rows is rows or (
        len(kept.rows) == len(rows) and all(old is new for old, new in zip(kept.rows, rows, strict=True))
    )
    if same_rows and kept.committed is committed and kept.launch == launch and kept.went == went:
        return kept
    return Unit(*name, rows, committed, launch=launch, went=went, sums=kept.sums if same_rows else None)


def _judge_run(units: list[Unit], policy: Policy, now: float, before: Mapping[UnitName, Unit], node: str) -> list[Unit]:
    previous: dict[str, Unit] = {}
    short: dict[str, list[int]] = defaultdict(list)
    last: Before | None = None
    pointers = {row.points_to: row for unit in units if unit.rows for row in unit.summed.pointers}
    judged = []
    for found in units:
        pointer = pointers.get(found.step)
        pointed = pointer is not None and _written_before(found, pointer)
        kind = _kind(found)
        kept = found is before.get(found.key)
        if kept and _stands(found, policy, pointed, previous.get(kind), last):
            unit = found
            unit.previous = previous.get(kind)  # with the same names as the old one, which is not to be kept for ever
        else:
            unit = _anew(found) if kept else found
            unit.pointed, unit.policy, unit.previous, unit.before = pointed, policy, previous.get(kind), last
            _judge(unit, policy, now, node)
        judged.append(unit)
        if unit.step is not None and unit.restorable:
            previous[kind], last = unit, parts.before_of(unit, node)
            for place in short.pop(kind, ()):
                # Of the same files as one that is whole because of them.
                if unit.previous is not None and unit.previous.names == judged[place].names == unit.names:
                    judged[place] = _judged_by(judged[place], unit, policy, now, node)
        elif unit.state is CheckpointState.TORN and WHICH_BEFORE in unit.reason:
            # Two in a row that end alike were not cut off: the job writes other files now.
            if short[kind] and judged[short[kind][-1]].names == unit.names:
                previous[kind] = unit
            short[kind].append(len(judged) - 1)
    judged = _in_order(judged)
    newer = False
    for unit in reversed(judged):
        unit.outlived = newer and unit.step is not None
        parts.give_up(unit, policy, now)
        newer = newer or (unit.step is not None and unit.restorable)
    return judged


def _judged_by(unit: Unit, other: Unit, policy: Policy, now: float, node: str) -> Unit:
    found = _anew(unit)
    found.pointed, found.policy, found.previous, found.before = unit.pointed, policy, other, unit.before
    _judge(found, policy, now, node)
    return found


def _anew(unit: Unit) -> Unit:
    """As it was before anything was derived from it, for what is judged again: others may still read the old one."""
    return Unit(
        *unit.key, unit.rows, unit.committed, launch=unit.launch, went=unit.went, sums=unit.sums, kind=unit.kind
    )


def _stands(unit: Unit, policy: Policy, pointed: bool, previous: Unit | None, last: Before | None) -> bool:
    """Whether what was said of it, of the same rows and manifests, is to be said again."""
    return (
        # Time alone may change it. A part may still wait to be quiet where the whole is lost and waits no more.
        unit.wake_at is None
        and (unit.part is None or unit.part.wake_at is None)
        and (unit.policy is policy or unit.policy == policy)
        and unit.before == last
        and unit.pointed == pointed
        and (unit.state is CheckpointState.COMMITTED or _same_names(unit.previous, previous))
    )


def _kind(unit: Unit) -> str:
    """One run may hold checkpoints of several sorts; what the one has, the other need not have."""
    if unit.kind is None:
        if unit.rows:
            unit.kind = kind_of(unit.rows[0].path)
        else:
            unit.kind = kind_of(path_of(unit.committed.first.root)) if unit.committed is not None else ""
    return unit.kind


def _in_order(units: list[Unit]) -> list[Unit]:
    """The newest last, and what the job has left behind before all others."""
    past = superseded([unit.written for unit in units if unit.written is not None and unit.restorable])
    for unit in units:
        unit.superseded = unit.step in past
    return sorted(units, key=lambda unit: (unit.step is not None, not unit.superseded)) if past else units


def _written_before(unit: Unit, pointer: FileRow) -> bool:
    """By the files' own times, which are true also for what was written while nobody looked."""
    if not pointer.closed:
        return False
    return all(row.attributes.mtime_ns <= pointer.attributes.mtime_ns for row in unit.rows)


def _same_names(one: Unit | None, other: Unit | None) -> bool:
    return one is other or (one is not None and other is not None and one.names == other.names)


def _judge(unit: Unit, policy: Policy, now: float, node: str) -> None:
    if unit.step is None:
        return
    _compare_with_manifest(unit)
    unit.written = _written(unit, unit.step)
    members: Sequence[Member] = ()
    if unit.all_cold or (unit.manifest_current and unit.committed is not None and not unit.committed.several):
        unit.mine = tuple(unit.rows)
        unit.part_committed = unit.committed is not None and unit.committed.several and node in unit.committed.fitting
    else:
        members = members_of(unit)
        parts.divide(unit, members, policy, now, node)
    if unit.manifest_current and unit.committed is not None and unit.committed.whole:
        manifest = unit.committed.first
        unit.state, unit.framework, unit.root = CheckpointState.COMMITTED, manifest.framework, manifest.root
    elif (elsewhere := _committed_anew_by(unit, node)) is not None:
        unit.state, unit.root = CheckpointState.TORN, root_of([row.path for row in unit.rows])
        unit.reason = (
            f"node {elsewhere} committed this step anew, what lies here is older: "
            f"ckptctl rm {unit.run}@{unit.step}, then prefetch"
        )
    elif unit.committed is not None and unit.committed.quarantined and not _replaceable(unit, node):
        manifest = unit.committed.first
        unit.state, unit.framework, unit.root = CheckpointState.TORN, manifest.framework, manifest.root
        unit.reason = "; ".join(dict.fromkeys(note.reason for note in unit.committed.quarantined.values()))
    elif parts.is_part(unit):
        parts.judge_part(unit, members or members_of(unit), now, policy.settle_s, node)
        _note_lost(unit)
    elif unit.added and unit.committed is not None and unit.committed.whole:
        _judge_addition(unit, unit.committed, members or members_of(unit), now, policy.settle_s)
    else:
        committed_at = None if unit.committed is None else unit.committed.committed_at
        said = judge(
            members or members_of(unit),
            now=now,
            settle_s=policy.settle_s,
            previous=None if unit.previous is None else unit.previous.names,
            committed_at=committed_at,
            pointed=unit.pointed,
            ranks=None if unit.launch is None else unit.launch.ranks,
        )
        _apply(unit, said)


def _judge_addition(unit: Unit, committed: Committed, members: Sequence[Member], now: float, settle_s: float) -> None:
    """It is committed, and stays so: the manifest is true whatever comes to lie beside what it describes. The manifest that
    describes the addition too replaces it when that is whole and quiet.
    """
    manifest = committed.first
    unit.state, unit.framework, unit.root = CheckpointState.COMMITTED, manifest.framework, manifest.root
    said = judge(members, now=now, settle_s=settle_s, previous=None, committed_at=committed.committed_at)
    last = max((row.changed_at for row in unit.rows if row.path in unit.added), default=now)
    unit.addition, unit.wake_at = said.state, said.wake_at
    if said.state is CheckpointState.COMPLETE and now - settle_s < last <= now:  # one manifest for all that is added
        unit.addition, unit.wake_at = CheckpointState.WRITING, last + settle_s
    elif said.state is CheckpointState.TORN:
        unit.reason = f"of what was added, {said.reason}: not in the manifest"
    _note_lost(unit)


def _written(unit: Unit, step: int) -> Written | None:
    if unit.all_cold and unit.committed is not None and (times := unit.committed.times) is not None:
        return Written(step, *times)
    files = [(row.size, row.attributes.mtime_ns) for row in unit.rows]
    files += [(entry.size, entry.attributes.mtime_ns) for entry in unit.cold.values()]
    return Written.of(step, files)


def _replaceable(unit: Unit, node: str) -> bool:
    """Its manifest is this node's alone, and what is bad in the remote lies here: it is restorable, and is sent again."""
    if unit.committed is None or set(unit.committed.by_node) != {node}:
        return False
    here = {row.path for row in unit.rows if row.local() is not None}
    return all(path_of(key) in here for note in unit.committed.quarantined.values() for key in note.keys)


def _committed_anew_by(unit: Unit, here: str) -> str | None:
    """The node whose manifest is younger than what differs from it here: the job went on there, and wrote the step again."""
    if unit.committed is None:
        return None
    for node, manifest in unit.committed.by_node.items():
        if node == here:
            continue  # by one clock, which may have been set back: what is here is the newer one
        entries = {entry.path: entry for entry in manifest.entries}
        differing = [row for row in unit.rows if row.path in entries and not matches(row, entries[row.path])]
        if differing and all(row.closed and row.changed_at < manifest.written_at for row in differing):
            return node
    return None


def _apply(unit: Unit, verdict: Verdict) -> None:
    unit.state, unit.reason, unit.framework = verdict.state, verdict.reason, verdict.framework
    unit.root, unit.wake_at = verdict.root, verdict.wake_at
    _note_lost(unit)


def _note_lost(unit: Unit) -> None:
    if unit.step is not None and (
        lost := [row.path for row in unit.rows if row.closed and row.link is None and not row.places]
    ):
        unit.state, unit.reason, unit.wake_at = CheckpointState.LOST, f"no copy is left of {', '.join(lost[:3])}", None


def _compare_with_manifest(unit: Unit) -> None:
    """Fills in `absent` and `manifest_current`."""
    committed = unit.committed
    if committed is None:
        return
    if not unit.rows:
        unit.manifest_current = True
        return
    entries = committed.entries()
    paths = {row.path for row in unit.rows}
    unit.absent = {
        path: entry for path, entry in entries.items() if path not in paths and entry.key not in committed.forgotten
    }
    unit.manifest_current = all(
        matches(row, entries.get(row.path)) for row in unit.rows if not locate(row.path).temporary
    )
    unit.added = added_to(unit)
