"""What should happen next on a node: the only place with an opinion. Pure: the same snapshot gives the same plan.

Words. A *unit* is a checkpoint or a run's loose files. Complete and committed checkpoints of a run are *ranked*; 0 is
the newest. A copy counts for the present generation of a file only. *Durable*: a copy is in the remote.

Uploads (`uploads`)
  - Every settled file without a remote copy is uploaded, unless it is busy or waits after a failure.
  - While a file of a checkpoint is open, its closed ones wait for up to `HOLD_S`: the save comes first.
  - Order: complete checkpoints, then writing ones, then loose files, then torn ones. Among complete ones what was begun
    is finished first, then the newest checkpoint of every run, the run exposed longest before the others.
  - While the node is drained: the newest whole checkpoint of every run first, and of these the one with the least left to
    send, so that as many runs as can be have one when the time is over. Nothing waits for a save under way.
  - Where files of several users wait, they take turns by bytes, each in this order: a flood delays nobody else's checkpoint.
  - Markers go after all other files of their checkpoint; a run's pointer files (`latest`) after the files of its
    checkpoints that were closed before them.
  - `sync = latest`: complete checkpoints only, and not one that was superseded before its upload began. Loose files go
    up all the same, torn checkpoints do not. What a tag or a flush names is not skipped.
  - A checkpoint is committed when it is complete and every file durable; what a dead writer left beside it under a
    temporary name does not count.
  - A part of a checkpoint that several nodes write is sent and committed like a complete one, as soon as it is all there.
  - A committed checkpoint that is overwritten keeps its objects and manifest until it is complete again; then the
    manifest goes (`Uncommit`) before the first object is replaced. A torn rewrite never reaches the remote.
  - A remote that is down gets one action a volume as a trial, and nothing while one is on its way.

Room (`room`)
  - Beyond `keep_hot`: from RAM to NVMe; where NVMe is missing or full, a committed checkpoint leaves RAM altogether.
    Beyond `keep_nvme` (and `keep_hot`): a committed checkpoint leaves the node. Not while uploading, not if pinned.
  - A user whose checkpoints take more of RAM than one user may: his own go, in the order below, until they fit; what is being
    written and what is pinned stays.
  - A tier is under pressure when use + reserve is beyond its budget. Then leave, in this order: torn checkpoints and
    durable loose files, oldest first; checkpoints, lowest rank first; what is being written or loose and not durable;
    what is pinned, and that only while the use alone is beyond the budget.
  - Who leaves RAM goes to NVMe if it fits; else it displaces what is worth less there (anything durable, if it is not
    durable itself); else it is evicted, if durable. Files of a checkpoint being written are never evicted, pinned ones
    only out of a RAM tier that they overfill. What is not durable is never evicted.
  - Moves of one plan fit into the budgets together and in any order: room its evictions make is for the next plan.
  - Only pins bring files back into RAM, while they fit beside the reserve.

Retention (`retention`)
  - Abandoned (the one way to lose an only copy, and asked for): a checkpoint that `sync = latest` skipped, beyond
    `keep_hot` and `keep_nvme`, not pinned or protected, when a newer one of the run is committed.
  - Pruned from the remote: committed, `keep_remote` or more newer committed ones, not a multiple of `keep_every`, not
    pinned or protected (a tag, a link such as `best`), and held by no tier any more: it would become an only copy and go
    up again. Where several nodes write, one of them prunes; the others let go of what it took (`Standing.let_go`).

Nothing is planned for busy files and units, and at most one action a file. Relief of pressure goes before everything.
"""

from __future__ import annotations

from ckptd.policy.actions import Action, Upload
from ckptd.policy.ranking import standings
from ckptd.policy.retention import abandoned, pruned
from ckptd.policy.room import Room
from ckptd.policy.snapshot import Snapshot
from ckptd.policy.uploads import remote_work


def plan(snapshot: Snapshot, now: float) -> tuple[Action, ...]:
    """Actions in the order in which to start them; `now` in seconds since the epoch."""
    ordered = standings(snapshot.units)
    tiers = {tier.place: tier for tier in snapshot.tiers}
    to_remote = remote_work(ordered, now, draining=snapshot.draining)
    to_abandon = abandoned(ordered)
    uploading = {action.file for action in to_remote if isinstance(action, Upload)}
    settled_otherwise = {(a.volume, a.run, a.step) for a in (*to_remote, *to_abandon) if not isinstance(a, Upload)}
    room = Room([standing for standing in ordered if standing.name not in settled_otherwise], tiers, now)

    room.keep_policy(uploading)
    room.keep_shares(snapshot.user_budget)
    by_policy = len(room.moves)
    room.relieve_ram()
    room.relieve_nvme()
    relieved = len(room.moves)
    room.fulfil_pins()
    moved = {move.file for move in room.moves}
    return (
        *room.moves[by_policy:relieved],
        *(action for action in to_remote if not isinstance(action, Upload) or action.file not in moved),
        *room.moves[relieved:],
        *room.moves[:by_policy],
        *to_abandon,
        *pruned(ordered, now),
    )
