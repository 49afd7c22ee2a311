"""What goes to the remote, and in which order: uploads, commits, manifests to be taken back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import groupby

from ckptd.domain.model import CheckpointState
from ckptd.policy.actions import Commit, Uncommit, Upload
from ckptd.policy.policy import Sync
from ckptd.policy.ranking import Standing
from ckptd.policy.snapshot import FileView, waits

RemoteAction = Upload | Commit | Uncommit
_Order = tuple[float | int | str, ...]

HOLD_S = 3.0
"""How long a closed file waits for the rest of its checkpoint to be written: sending it at once takes processor and memory
bandwidth from the save that the job is waiting for (tests/bench/bench_save.py)."""


def remote_work(standings: Sequence[Standing], now: float, *, draining: bool = False) -> list[RemoteAction]:
    """Uncommits, commits, uploads, most urgent first; for a remote that is down one of them as a trial."""
    uncommits: list[tuple[Standing, RemoteAction]] = []
    commits: list[tuple[Standing, RemoteAction]] = []
    uploads: list[tuple[_Order, Standing, FileView]] = []
    exposed = _exposed_since(standings)
    uncommitted = {s.name for s in standings if s.unit.step is not None and not s.unit.manifest_current}
    for standing in standings:
        unit = standing.unit
        if unit.busy or (unit.manifest_current and not unit.to_send) or not _may_upload(standing):
            continue
        wanted = _wanted(standing, exposed.get((unit.volume, unit.run)), now, hold=not draining)
        wanted = [file for file in wanted if (unit.volume, unit.run, file.points_to) not in uncommitted]
        ready = unit.step is not None and _committable(standing)
        if unit.step is not None and not waits(unit.retry_at, now):
            if standing.stale and (wanted or ready):
                uncommits.append((standing, Uncommit(unit.volume, unit.run, unit.step)))
            elif ready and not unit.manifest_current and not unit.part_committed:
                commits.append((standing, Commit(unit.volume, unit.run, unit.step)))
        if wanted and not standing.stale:
            prefix = (_by_value if draining else _unit_order)(standing, wanted)
            uploads.extend(((*prefix, file.closed_at, file.id), standing, file) for file in wanted)
    uploads.sort(key=lambda entry: entry[0])
    # While the node is drained nobody's second best goes before somebody's best.
    classes = groupby(uploads, key=lambda entry: entry[0][:2] if draining else ())
    in_turn = [
        it for _, some in classes for it in _in_turn([(standing, file) for _, standing, file in some], standings)
    ]
    ordered = [*uncommits, *commits, *((standing, Upload(file.id, file.generation)) for standing, file in in_turn)]
    return list(_with_trials(standings, ordered))


def _in_turn(
    uploads: Sequence[tuple[Standing, FileView]], standings: Iterable[Standing]
) -> Iterable[tuple[Standing, FileView]]:
    """Owners take turns, by bytes: next is whoever has got the least, what is on its way included. Each keeps his own order."""
    queues: dict[int, deque[tuple[Standing, FileView]]] = {}
    for standing, file in uploads:
        queues.setdefault(standing.unit.owner, deque()).append((standing, file))
    if len(queues) < 2:
        yield from uploads
        return
    got = dict.fromkeys(queues, 0)
    for standing in standings:
        if standing.unit.owner in got:
            got[standing.unit.owner] += sum(file.size for file in standing.unit.worked_on if file.uploading)
    while queues:
        owner = min(queues, key=got.__getitem__)  # of equals the one whose first upload is the most urgent
        standing, file = queues[owner].popleft()
        got[owner] += file.size
        yield standing, file
        if not queues[owner]:
            del queues[owner]


def _may_upload(standing: Standing) -> bool:
    """Whether the policy sends the unit at all. What another user's directory of the same name holds is never sent.

    Where a committed checkpoint is being overwritten, the remote keeps the old one until the new one is complete:
    replacing objects piecemeal would leave nothing restorable if the writer dies.
    """
    unit = standing.unit
    if unit.foreign:
        return False
    if unit.step is None:
        return True
    if standing.let_go:
        return False
    if unit.state in {CheckpointState.COMPLETE, CheckpointState.COMMITTED} or unit.part:
        return not standing.skipped
    return unit.policy.sync is Sync.ALL and not standing.stale


def _wanted(standing: Standing, exposed_since: float | None, now: float, *, hold: bool) -> list[FileView]:
    """The files to send now. Markers wait for the rest of their unit, pointers for the checkpoints before them.

    `hold`: those of a save under way wait for `HOLD_S`.
    """
    found: list[FileView] = []
    markers: list[FileView] = []
    loose = standing.unit.step is None
    others_durable = True
    saving = hold and not loose and standing.unit.open
    for file in standing.unit.to_send:
        # A log that is never closed must not hold a run's pointers for ever, so only settled loose files count.
        others_durable = others_durable and (file.last or (loose and not file.settled))
        held = saving and 0 <= now - file.closed_at < HOLD_S
        if file.settled and file.copies and not file.busy and not held and not waits(file.retry_at, now):
            (markers if file.last else found).append(file)
    if others_durable and loose and exposed_since is not None:
        markers = [file for file in markers if file.closed_at < exposed_since]
    return found + markers if others_durable else found


def _exposed_since(standings: Iterable[Standing]) -> dict[tuple[str, str], float]:
    """When the oldest content that is still to be uploaded for a run's checkpoints was closed."""
    found: dict[tuple[str, str], float] = {}
    for standing in standings:
        unit = standing.unit
        if not unit.to_send or unit.step is None or unit.state in {CheckpointState.TORN, CheckpointState.LOST}:
            continue
        if standing.skipped:
            continue
        for file in unit.to_send:
            if file.settled:
                key = (unit.volume, unit.run)
                found[key] = min(file.closed_at, found.get(key, file.closed_at))
    return found


def _committable(standing: Standing) -> bool:
    unit = standing.unit
    return (
        (unit.state is CheckpointState.COMPLETE or unit.part)
        and bool(unit.files)
        and not unit.to_send
        and all(file.left_over or file.settled for file in unit.files)
    )


def _unit_order(standing: Standing, wanted: Sequence[FileView]) -> _Order:
    """Complete checkpoints before writing ones before loose files before torn ones.

    Among complete ones what was begun is finished first (else saves that come faster than uploads finish would keep
    every checkpoint from being committed), then the newest of each run, the longest exposed run first.
    """
    unit = standing.unit
    if unit.step is None:
        return (2,)
    if unit.state in {CheckpointState.TORN, CheckpointState.LOST}:
        return (3,)
    oldest = min(file.closed_at for file in wanted)
    place = (oldest, unit.volume, unit.run, unit.step)
    if standing.rank is None:
        return (1, 0, 0, *place)
    return (0, int(not standing.begun), standing.rank, *place)


def _by_value(standing: Standing, wanted: Sequence[FileView]) -> _Order:
    """What a loss of the node in a moment would cost most. A part of a checkpoint of several nodes is the newest of its run."""
    unit = standing.unit
    rank = 0 if unit.part else standing.rank
    if unit.step is None or rank is None:
        return _unit_order(standing, wanted)
    left = sum(file.size for file in unit.to_send)
    return (0, rank, left, unit.volume, unit.run, unit.step)


def _with_trials(
    standings: Sequence[Standing], ordered: Iterable[tuple[Standing, RemoteAction]]
) -> Iterable[RemoteAction]:
    """Everything where the remote answers; the first action where it does not and nothing is on its way yet."""
    tried = {
        standing.unit.volume
        for standing in standings
        if not standing.unit.remote_ok
        and (standing.unit.busy or any(file.uploading for file in standing.unit.worked_on))
    }
    for standing, action in ordered:
        if standing.unit.remote_ok:
            yield action
        elif standing.unit.volume not in tried:
            tried.add(standing.unit.volume)
            yield action
