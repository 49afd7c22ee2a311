"""The JSON of docs/cli.md as pydantic models, built from the reports of `ckptd.domain.model`.

Sizes are integers, times RFC 3339 in UTC. Names that are not clean text travel as keys (`ckptd.domain.names.key_of`),
both ways, so that what `ls` shows can be asked for.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from ckptd.domain.errors import CkptdError
from ckptd.domain.launch import JobRun
from ckptd.domain.model import Operation
from ckptd.domain.names import key_of


def rfc3339(seconds: float, timespec: str = "seconds") -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def printable(text: str) -> str:
    """Messages may quote file names that are not UTF-8; JSON cannot carry those bytes."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _time(value: object) -> object:
    return rfc3339(value) if isinstance(value, (int, float)) else value


def _precise_time(value: object) -> object:
    return rfc3339(value, "milliseconds") if isinstance(value, (int, float)) else value


def _key(value: object) -> object:
    return key_of(value) if isinstance(value, str) else value


def _printable(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


_DATE_TIME = WithJsonSchema({"type": "string", "format": "date-time"})
Time = Annotated[str, BeforeValidator(_time), _DATE_TIME]
PreciseTime = Annotated[str, BeforeValidator(_precise_time), _DATE_TIME]
Key = Annotated[str, BeforeValidator(_key)]
Message = Annotated[str, BeforeValidator(_printable)]
PolicyValues = Annotated[
    dict[str, int | str],
    BeforeValidator(lambda values: {key: int(text) if text.isdecimal() else text for key, text in values.items()}),
]
"""Numbers as numbers, `sync` and `settle` as text."""


class Body(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True, defer_build=True)  # as in `requests`


class ExposureBody(Body):
    bytes: int
    files: int
    oldest_s: float | None


class RunBody(Body):
    """A run: what `ls` without arguments lists."""

    volume: str
    run: Key
    checkpoints: int
    committed: int
    newest_step: int | None
    newest_state: str | None
    bytes: int
    hot_bytes: int
    durable_bytes: int
    newest_restorable: int | None = Field(description="The step that `latest` names; null: none is whole")
    exposure: ExposureBody | None = Field(description="What a loss of the node would cost the run now")


class CheckpointBody(Body):
    """A checkpoint: what `ls RUN` lists."""

    volume: str
    run: Key
    step: int
    state: str = Field(description="writing, complete, committed, torn or lost")
    framework: str
    files: int
    bytes: int
    hot_bytes: int
    durable_bytes: int
    tiers: list[str]
    pinned: bool
    path: Key
    written_at: Time
    committed_at: Time | None
    reason: Message = Field(description="Why it is torn or lost, or what it still waits for")
    skipped: bool = Field(description="sync=latest let it go unuploaded: a newer one was complete first")
    superseded: bool = Field(
        default=False,
        description="The job went back to an earlier step since: not what the run's name alone means, and the first to go",
    )
    tags: list[str]
    protected: list[Message] = Field(
        description="What keeps retention off: tag:NAME, link:PATH, pin, prefetch, every, flush"
    )
    durable_after_s: float | None = Field(
        description="Seconds from its last write to its manifest; null: not committed"
    )


class SpreadBody(Body):
    count: int
    median_s: float
    p95_s: float
    total_s: float


class IntervalBody(Body):
    """How long to work between two saves: by Young (1974), and by Daly's higher order (2006)."""

    cost_s: float = Field(description="What a save costs the job: the median")
    young_s: float
    daly_s: float


class RemoteAloneBody(Body):
    """An estimate: each save and resume at the speed at which a probe wrote and read one object, in one stream."""

    probed_at: Time
    probe_bytes: int
    write_bytes_per_s: float
    read_bytes_per_s: float
    save: SpreadBody | None
    resume: SpreadBody | None
    saved_s: float = Field(description="Time that the job did not wait in its saves")
    gpu_hours: float | None = Field(description="saved_s on all GPUs; null: their number was not given")
    interval: IntervalBody | None


class RunAccountBody(Body):
    """What `report --json` prints: as this node measured it."""

    volume: str
    run: Key
    node: str
    since: Time | None
    until: Time | None
    saves: int
    bytes: int
    copied_bytes: int
    every_s: float | None = Field(description="Median time from one save to the next")
    save: SpreadBody | None = Field(description="First write to last write: the job waits for it")
    durable: SpreadBody | None = Field(description="Last write to manifest: the job does not wait for it")
    resume: SpreadBody | None = Field(description="Until what was asked for was hot")
    resumes_hot: int = Field(description="Of them, how many found everything hot")
    mtbf_s: float
    gpus: int | None
    interval: IntervalBody | None
    remote_alone: RemoteAloneBody | None = Field(description="null: the remote was not probed yet")


class OperationBody(Body):
    """Long work: what `prefetch --json`, `flush --json` and `ops --json` print."""

    id: int
    kind: str
    state: str = Field(description="running, done, failed, cancelled or timeout")
    bytes_total: int
    bytes_done: int
    seconds: float = Field(description="How long it took, or takes already")
    error: Message | None
    target: Key
    volume: str
    started_at: Time
    finished_at: Time | None
    deadline_at: Time | None = Field(default=None, description="When it ends as timeout; null: never")
    error_code: str | None
    hint: Message
    result: Message | None
    arguments: dict[str, Message]
    bytes_before: int = Field(description="Of bytes_done, what was done when it began: not to be counted as speed")
    uid: int | None = Field(default=None, description="Who asked for it; null: the daemon itself")

    @model_validator(mode="before")
    @classmethod
    def _of_operation(cls, value: Any) -> Any:
        if not isinstance(value, Operation):
            return value
        fields = {name: getattr(value, name) for name in Operation.__dataclass_fields__}
        until = time.time() if value.finished_at is None else value.finished_at
        return fields | {"seconds": round(max(0.0, until - value.started_at), 3), "deadline_at": value.deadline_at}


class EventBody(Body):
    id: int
    at: PreciseTime
    level: str = Field(description="info, warning or error")
    event: str = Field(description="Stable name, e.g. checkpoint.committed")
    message: Message
    fields: dict[str, Message]


class VolumeBody(Body):
    name: str
    path: Key
    remote: Message
    front: str
    passthrough: bool = Field(description="The kernel moves the bytes of a mount by itself.")
    front_reason: Message = Field(description="Why it is not the other front, or why not passthrough.")
    remote_ok: bool
    remote_error: Message
    remote_since: Time | None
    runs: int
    checkpoints: int


class TierBody(Body):
    name: str
    path: Key
    budget_bytes: int
    effective_budget_bytes: int
    used_bytes: int
    pinned_bytes: int
    huge_pages: bool


class TransfersBody(Body):
    upload_bytes_per_s: float
    download_bytes_per_s: float
    queued_bytes: int
    sent_bytes: int
    copied_bytes: int


class ScrubBody(Body):
    """The background check of copies at rest; counts since the worker started."""

    every_s: float
    active: bool
    due_files: int
    due_bytes: int
    checked_files: int
    checked_bytes: int
    bad: int


class StatusBody(Body):
    """What `status --json` prints."""

    version: str
    node: str
    pid: int
    uptime_s: float
    restarts: int
    volumes: list[VolumeBody]
    tiers: list[TierBody]
    exposure: ExposureBody
    transfers: TransfersBody
    operations: list[OperationBody]
    trouble: list[EventBody]
    scrub: ScrubBody
    supervisor_pid: int
    state_dir: Key


class TagBody(Body):
    volume: str
    run: Key
    name: str
    step: int
    by: Message = Field(description="The node on which it was set")
    at: PreciseTime
    sent: bool = Field(description="False: the remote does not answer now, other nodes see the tag when it does")


class FileDifferenceBody(Body):
    name: Key = Field(description="Relative to the run; {n} stands for what changes from step to step")
    state: str = Field(description="equal, differs, only-one, only-other, or unchecked: a checksum is missing")
    one_bytes: int
    other_bytes: int
    equal_bytes: int
    differing_bytes: int = Field(description="In parts whose checksums differ")


class DiffBody(Body):
    """What `diff --json` prints."""

    volume: str
    one: Key
    other: Key
    files: list[FileDifferenceBody]
    equal_bytes: int
    differing_bytes: int
    only_one_bytes: int
    only_other_bytes: int
    unchecked: int = Field(description="Files without a checksum yet: the operation `checksum` takes it")


class JobBody(Body):
    """A run that a job of the scheduler wrote here."""

    volume: str
    run: Key
    job: int
    uid: int
    name: Message
    task: int | None = Field(description="Its number in an array of jobs; null: it is none")
    at: PreciseTime = Field(description="When it was last seen to begin a checkpoint")

    @model_validator(mode="before")
    @classmethod
    def _of_job_run(cls, value: Any) -> Any:
        if not isinstance(value, JobRun):
            return value
        job = value.job
        own = {"job": job.id, "uid": job.uid, "name": job.name, "task": job.task}
        return {"volume": value.volume, "run": value.run, "at": value.at, **own}


class PolicyBody(Body):
    volume: str
    pattern: str
    values: PolicyValues


class CheckpointPreviewBody(Body):
    step: int | None = Field(description="null: a run's files of no checkpoint")
    actions: list[str] = Field(description="demote, evict, abandon, prune, in this order")
    freed: dict[str, int] = Field(description="Bytes by ram, nvme and remote; negative where something comes in")


class RunPreviewBody(Body):
    run: Key
    checkpoints: list[CheckpointPreviewBody]
    freed: dict[str, int]


class PolicyPreviewBody(Body):
    """What `policy set --dry-run --json` prints."""

    volume: str
    pattern: str
    values: PolicyValues
    runs: list[RunPreviewBody]
    freed: dict[str, int]


class EffectivePolicyBody(Body):
    volume: str
    run: Key
    values: PolicyValues
    sources: dict[str, str]


class ShutdownBody(Body):
    exposure: ExposureBody
    operation: OperationBody | None


class UpgradeBody(Body):
    before: str
    after: str
    mounts: bool


class HealthBody(Body):
    ok: bool
    version: str
    pid: int


class ErrorDetail(Body):
    code: str
    message: Message
    hint: Message
    exit_code: int


class ErrorBody(Body):
    """Every answer that is not a success."""

    error: ErrorDetail


def error_body(error: CkptdError) -> ErrorBody:
    detail = ErrorDetail(code=error.code, message=error.message, hint=error.hint, exit_code=error.exit_code)
    return ErrorBody(error=detail)
