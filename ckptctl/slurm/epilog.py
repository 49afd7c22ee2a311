"""After a job ended: what it wrote becomes durable, and what was kept hot for it is given free."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from ckptctl import figures
from ckptctl.slurm import as_user, scontrol
from ckptctl.slurm.choosing import of_job
from ckptctl.slurm.daemon import Answer, Daemon, Volume
from ckptctl.slurm.job import SlurmJob
from ckptctl.slurm.record import Record, Records
from ckptd.domain.errors import CkptdError, NotInTime, NotKnown
from ckptd.domain.names import key_of, path_of

_LAST_WORDS_S = 3.0
"""Of the budget, for what comes after the flush."""


@dataclass(frozen=True, slots=True)
class Epilog:
    job: SlurmJob
    daemon: Daemon
    records: Records
    evict: bool
    """Drops this node's copies of what is durable; else the volume's policy says what stays hot (a requeued job wants it)."""

    def run(self) -> str:
        """Says what is durable, in a line. Raises CkptdError; NotInTime where something is still exposed."""
        record = self.records.read(self.job.id)
        self.records.remove(
            self.job.id
        )  # whatever comes: what it keeps hot ends by itself, and other jobs do not wait for it
        volumes = self.daemon.volumes()
        wrote = [(one.volume or "", path_of(one.run)) for one in of_job(self.daemon.jobs(self.job), self.job.id)]
        runs = wrote if record is None else list(dict.fromkeys([*wrote, _run_of(record)]))
        self._flush([run for run in runs if run in wrote or self._may_write(run, volumes)])
        if record is not None and record.pinned is not None:
            self._unpin(record.volume, record.pinned)
        if self.evict:
            self._evict(wrote)
        ended = self.daemon.ended(self.job, [(volume, key_of(run)) for volume, run in runs]) if runs else []
        if not ended:
            return "the job wrote no checkpoint here"
        exposed = [one for one in ended if one["exposure"]["files"]]
        line = "; ".join(said_of(one) for one in ended)
        self._tell(line)
        if exposed:
            raise NotInTime(line, hint="it is sent in the background; ckptctl status shows how far it is")
        return line

    def _may_write(self, run: tuple[str, str], volumes: list[Volume]) -> bool:
        """Of the run that the job named: it may have been written too quickly to be seen. Root does nothing for the job to a run
        that its user may only read.
        """
        paths = [os.path.join(path_of(one.path), run[1]) for one in volumes if one.name == run[0]]
        return as_user.as_user(
            self.job.uid, self.job.gid, lambda: any(os.access(path, os.W_OK | os.X_OK) for path in paths),
            patience_s=self.daemon.left_s / 2,
        )  # fmt: skip

    def _flush(self, runs: list[tuple[str, str]]) -> None:
        """All together; what is not durable when the budget is nearly over goes on in the background."""
        begun: list[Answer] = []
        for volume, run in runs:
            with contextlib.suppress(NotKnown):  # nothing of it was written yet
                limit = max(0.1, self.daemon.left_s - _LAST_WORDS_S)
                begun.append(self.daemon.start("flush", volume, key_of(run), timeout=limit))
        for operation in begun:
            self.daemon.wait(operation, _LAST_WORDS_S)

    def _unpin(self, volume: str, target: str) -> None:
        if any((other.volume, other.pinned) == (volume, target) for other in self.records.others(self.job.id)):
            return  # another job of this node still wants it
        with contextlib.suppress(NotKnown):  # removed meanwhile
            self.daemon.unpin(volume, target)

    def _evict(self, runs: list[tuple[str, str]]) -> None:
        wanted = {_run_of(other) for other in self.records.others(self.job.id)}
        for volume, run in runs:
            if (volume, run) in wanted:
                continue  # by another job of this node
            with contextlib.suppress(CkptdError):  # the only copy, or open: it stays
                self.daemon.wait(self.daemon.start("evict", volume, key_of(run)), _LAST_WORDS_S / 2)

    def _tell(self, line: str) -> None:
        """Into the job's log, on the node that has it."""
        if not self.job.first:
            return
        job = self.job if self.job.stderr else scontrol.complete(self.job, self.daemon.left_s)
        if job.stderr and job.stderr != "/dev/null":
            as_user.append(job.stderr, f"ckptd: {line}\n", job.uid, job.gid)


def _run_of(record: Record) -> tuple[str, str]:
    return record.volume, path_of(record.run)


def said_of(run: Answer) -> str:
    """`run-42 is durable, newest 1200`, or what is not."""
    exposure, newest = run["exposure"], run["newest_restorable"]
    upto = "no whole checkpoint" if newest is None else f"newest {newest}"
    if not exposure["files"]:
        return f"{run['run']} is durable, {upto}"
    return f"{run['run']} is NOT durable yet: {figures.size(exposure['bytes'])} in {exposure['files']} files, {upto}"
