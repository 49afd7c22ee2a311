"""Before a job starts: its newest checkpoint is hot, or on its way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ckptctl import figures
from ckptctl.slurm import as_user
from ckptctl.slurm.choosing import Choice, choose
from ckptctl.slurm.daemon import Answer, Daemon, Volume, volume_of
from ckptctl.slurm.job import SlurmJob
from ckptctl.slurm.record import Record, Records
from ckptctl.slurm.spread import delay
from ckptd.domain.errors import NotAllowed, NotInTime
from ckptd.domain.names import path_of

_AFTER_THE_END_S = 600.0
"""Kept hot for so long after the job's time limit: the Epilog gives it free before that."""


@dataclass(frozen=True, slots=True)
class Prolog:
    job: SlurmJob
    daemon: Daemon
    records: Records
    budget_s: float
    ttl_s: float
    """How long a checkpoint is kept hot where the job's time limit is not known."""
    clock: Callable[[], float] = time.time

    def run(self) -> str:
        """Says what was done, in a line. Raises CkptdError; NotInTime where the prefetch goes on in the background."""
        volumes = self.daemon.volumes()
        choice = choose(self.job, self.daemon)
        if choice is None:
            return "the job names no run (--comment=ckpt=RUN), and none is known of it"
        volume = volume_of(volumes, choice.named.volume)
        run = os.path.join(path_of(volume.path), path_of(choice.named.run))
        newest = self.daemon.newest(volume.name, choice.named.target)
        paths = (run,) if newest is None else (run, path_of(newest["path"]))
        self._require_readable(
            choice, paths, lambda: newest is None or self.daemon.shows(volume.name, choice.named.target)
        )
        self.records.prepare()
        self._leave(choice, volume, newest)
        if newest is None:
            return f"{choice.named.target} has no checkpoint yet: a new run"
        cold = newest["hot_bytes"] < newest["bytes"]
        if cold:
            time.sleep(delay(self.job.id, self.job.node, self.job.nodes, self.budget_s))
        operation = self._prefetch(volume, newest)
        if cold:
            self._require_readable_now(choice, paths, volume)
        return self._outcome(operation, newest)

    def _require_readable(self, choice: Choice, paths: Sequence[str], shown: Callable[[], bool] = lambda: True) -> None:
        """Root asks for nothing that the job's user may not see. Raises NotAllowed.

        The tree says whether he may; of what is only in the remote, and not in sight on a watched volume, the daemon does.
        """
        patience_s = self.daemon.left_s / 2
        if not as_user.may_read(paths, self.job.uid, self.job.gid, shown, patience_s=patience_s):
            raise NotAllowed(f"user {self.job.uid} may not read run '{choice.named.run}'", hint="it is another user's")

    def _require_readable_now(self, choice: Choice, paths: Sequence[str], volume: Volume) -> None:
        """The same of what has just come, where users may not ask the daemon; what was kept hot for the job is given free."""
        try:
            self._require_readable(choice, paths)
        except NotAllowed:
            self._take_back(volume)
            raise

    def _take_back(self, volume: Volume) -> None:
        record = self.records.read(self.job.id)
        self.records.remove(self.job.id)
        if record is not None and record.pinned is not None:
            self.daemon.unpin(volume.name, record.pinned)

    def _leave(self, choice: Choice, volume: Volume, newest: Answer | None) -> None:
        """For the Epilog and the TaskProlog."""
        target, run = None, choice.named.run
        if newest is not None:
            target = f"{newest['run']}@{newest['step']}"
            before = self.records.read(self.job.id)  # of a start whose Epilog was never run
            for_jobs = [(one.volume, one.pinned) for one in (before, *self.records.others(self.job.id)) if one]
            if newest["pinned"] and (volume.name, target) not in for_jobs:
                target = None  # somebody's own pin is not ours to take back
        self.records.write(self.job.id, Record(volume.name, run, target))
        if choice.sure:
            exports = {
                "CKPTD_RUN": path_of(run), "CKPTD_VOLUME": path_of(volume.path), "CKPTD_VOLUME_NAME": volume.name,
            }  # fmt: skip
            if newest is not None:
                exports["CKPTD_LATEST"] = path_of(newest["path"])
                exports["CKPTD_TARGET"] = f"{path_of(newest['run'])}@{newest['step']}"
            self.records.export(self.job.id, exports, self.job.uid, self.job.gid)

    def _prefetch(self, volume: Volume, newest: Answer) -> Answer:
        ttl = self.ttl_s
        if self.job.ends_at is not None:
            ttl = max(0.0, self.job.ends_at - self.clock()) + _AFTER_THE_END_S
        target = f"{newest['run']}@{newest['step']}"
        return self.daemon.wait(self.daemon.start("prefetch", volume.name, target, ttl=ttl))

    def _outcome(self, operation: Answer, newest: Answer) -> str:
        name = f"{newest['run']}@{newest['step']}"
        moved = operation["bytes_done"] - operation["bytes_before"]
        if operation["state"] == "done":
            fetched = f", {figures.size(moved)} of it fetched in {operation['seconds']:.1f} s" if moved else ""
            return f"{name} is hot ({figures.size(operation['bytes_done'])}{fetched}): {newest['path']}"
        if operation["state"] == "running":
            done, total = figures.size(operation["bytes_done"]), figures.size(operation["bytes_total"])
            raise NotInTime(f"{done} of {total} of {name} are hot", hint="the prefetch goes on while the job starts")
        raise NotInTime(f"{name} could not be made hot: {operation['error'] or operation['state']}")
