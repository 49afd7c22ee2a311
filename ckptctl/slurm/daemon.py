"""The questions that Prolog and Epilog ask the daemon, each within what is left of the budget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ckptctl.client import Client, part
from ckptctl.slurm.job import SlurmJob
from ckptd.domain.errors import DaemonUnreachable, NotAllowed, NotInTime, NotKnown

_FIRST_ANSWER_S = 5.0
"""A daemon that says nothing for so long is stuck: no job waits for it any longer."""
_POLL_S = (0.002, 0.5)

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Volume:
    name: str
    path: str


class Daemon:
    def __init__(self, socket_path: str, budget_s: float) -> None:
        self._deadline = time.monotonic() + budget_s
        self._client = Client(socket_path, patience_s=min(budget_s / 2, _FIRST_ANSWER_S))

    @property
    def left_s(self) -> float:
        return self._deadline - time.monotonic()

    def volumes(self) -> list[Volume]:
        """The first question: whether anybody is there."""
        return [Volume(one["name"], one["path"]) for one in self._get("/v1/status", at_most=_FIRST_ANSWER_S)["volumes"]]

    def newest(self, volume: str, target: str) -> Answer | None:
        """As `ls` shows it; None for a run of which nothing is restorable yet. NotKnown for a step or tag that is not there."""
        try:
            found: Answer = self._get(f"/v1/runs/{part(target)}/latest", volume=volume)
        except NotKnown:
            if "@" in target:
                raise
            return None
        return found

    def shows(self, volume: str, target: str) -> bool:
        """Whether it shows this checkpoint to whoever asks. A daemon that talks to administrators only says nothing: True."""
        try:
            return self.newest(volume, target) is not None
        except NotKnown:
            return False
        except (DaemonUnreachable, NotAllowed):
            return True

    def jobs(self, job: SlurmJob, *, everywhere: bool = False) -> list[Answer]:
        """The runs that this job, or an earlier one of its user, wrote here, or anywhere; the last written first."""
        found: list[Answer] = self._get("/v1/jobs", uid=job.uid, everywhere="true" if everywhere else None)
        return found

    def start(self, kind: str, volume: str, target: str, **arguments: object) -> Answer:
        body = {"kind": kind, "volume": volume, "target": target, "arguments": arguments}
        found: Answer = self._send("POST", "/v1/operations", body)
        return found

    def wait(self, operation: Answer, spare_s: float = 0.0) -> Answer:
        """Until it ends, or the budget does but for `spare_s`: then it is still `running`."""
        pause, longest = _POLL_S
        while operation["state"] == "running" and self.left_s > pause + spare_s:
            time.sleep(pause)
            pause = min(2 * pause, longest)
            operation = self._get(f"/v1/operations/{operation['id']}")
        return operation

    def unpin(self, volume: str, target: str) -> None:
        """Takes back a prefetch's pin; one that a user has set meanwhile stays."""
        self._send("PUT", "/v1/pins", {"volume": volume, "target": target, "on": False, "temporary": True})

    def ended(self, job: SlurmJob, runs: list[tuple[str, str]]) -> list[Answer]:
        """Records the end of the job, and says of each run what is durable."""
        body = {"uid": job.uid, "runs": [{"volume": volume, "run": run} for volume, run in runs]}
        found: list[Answer] = self._send("POST", f"/v1/jobs/{job.id}/end", body)
        return found

    def _get(self, path: str, *, at_most: float = 60.0, **query: object) -> Any:
        self._patience(at_most)
        return self._client.get(path, **query)

    def _send(self, method: str, path: str, body: object) -> Any:
        self._patience(60.0)
        return self._client.send(method, path, body)

    def _patience(self, at_most: float) -> None:
        if self.left_s <= 0:
            raise NotInTime("the time for it is over")
        self._client.answer_s = min(at_most, self.left_s)
        self._client.patience_s = min(self._client.patience_s, self.left_s)


def volume_of(volumes: list[Volume], name: str | None) -> Volume:
    """Raises NotKnown where it is not served here, or none is named and several are."""
    found = [volume for volume in volumes if name in (None, volume.name)]
    if len(found) == 1:
        return found[0]
    served = ", ".join(volume.name for volume in volumes)
    if not volumes:
        raise DaemonUnreachable("the daemon serves no volume")
    raise NotKnown(
        f"no volume '{name}' is served here" if name else "several volumes are served, and the comment names none",
        hint=f"served: {served}; write ckpt=VOLUME:RUN",
    )
