"""The one table of what the API answers. Server and OpenAPI document are both made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from ckptd.api import calls
from ckptd.api.node import Node
from ckptd.api.requests import (
    START,
    AccountQuery,
    DiffQuery,
    EventsQuery,
    Identifier,
    JobEndRequest,
    JobsQuery,
    NoQuery,
    OptionalRunQuery,
    PatternQuery,
    PinRequest,
    PolicyRequest,
    Request,
    Run,
    RunQuery,
    ShutdownRequest,
    TagQuery,
    TagRequest,
    VolumeQuery,
)
from ckptd.api.schemas import (
    CheckpointBody,
    DiffBody,
    EffectivePolicyBody,
    EventBody,
    HealthBody,
    JobBody,
    OperationBody,
    PolicyBody,
    PolicyPreviewBody,
    RunAccountBody,
    RunBody,
    ShutdownBody,
    StatusBody,
    TagBody,
    UpgradeBody,
)
from ckptd.domain import errors

Method = Literal["GET", "POST", "PUT", "DELETE"]


class Caller(StrEnum):
    """Who gets an answer, for the document; `guard` decides. A run that one may not see is answered for as one that is not."""

    ANYONE = "anyone"  # who can open the socket; of runs, operations and events he is told those that he may see
    SEES = "sees"  # who may see the run that is meant
    STEERS = "steers"  # who may steer it
    BY_KIND = "by kind"  # verify, checksum: sees; restore, or everything: administrator; else steers
    STARTED = "started"  # who started the operation
    ADMINISTRATOR = "administrator"


class NoPath(Request):
    pass


class RunPath(Request):
    run: Run


class OperationPath(Request):
    id: Annotated[Identifier, Field(description="From the answer that started it")]


class JobPath(Request):
    id: Annotated[Identifier, Field(description="The scheduler's number")]


@dataclass(frozen=True, slots=True)
class Route:
    method: Method
    path: str
    name: str
    """`operationId` of the OpenAPI document."""
    summary: str
    call: Callable[[Node, Any], Awaitable[Any]]
    response: Any
    """A type for a JSON body, `bytes` for plain text, None for 204."""
    caller: Caller = Caller.ANYONE
    parameters: type[BaseModel] = NoPath
    query: type[BaseModel] = NoQuery
    body: Any = None
    """What the body must validate as; None: there is none."""
    status: int = 200
    raises: tuple[type[errors.CkptdError], ...] = ()
    """Beside UsageError and NotAllowed, which every route can answer with."""
    streams: bool = False
    """It can answer with `text/event-stream`."""


_ASKS_FOR = (errors.NotKnown,)
_WORKS = (
    errors.NotKnown, errors.NotInTime, errors.IntegrityError, errors.NoRoom, errors.TooMuch, errors.RemoteError,
    errors.StateUnusable,
)  # fmt: skip

ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/health", "health", "Is the daemon serving?", calls.health, HealthBody),
    Route("GET", "/v1/status", "status", "Everything at a glance", calls.status, StatusBody),
    Route(
        "GET", "/v1/runs", "runs", "All runs", calls.runs, list[RunBody],
        query=VolumeQuery, raises=_ASKS_FOR,
    ),
    Route(
        "GET", "/v1/runs/{run}/checkpoints", "checkpoints", "A run's checkpoints, newest step first",
        calls.checkpoints, list[CheckpointBody], Caller.SEES, parameters=RunPath, query=VolumeQuery, raises=_ASKS_FOR,
    ),
    Route(
        "GET", "/v1/runs/{run}/latest", "latest", "A run's newest restorable checkpoint",
        calls.latest, CheckpointBody, Caller.SEES, parameters=RunPath, query=VolumeQuery, raises=_ASKS_FOR,
    ),
    Route(
        "GET", "/v1/runs/{run}/report", "report", "A run's own numbers, beside what its remote alone would have taken",
        calls.account, RunAccountBody, Caller.SEES, parameters=RunPath, query=AccountQuery, raises=_ASKS_FOR,
    ),
    Route(
        "GET", "/v1/operations", "operations", "Operations, oldest first", calls.operations, list[OperationBody],
    ),
    Route(
        "POST", "/v1/operations", "start", "Start one",
        calls.start, OperationBody, Caller.BY_KIND, body=START, status=202, raises=_WORKS,
    ),
    Route(
        "GET", "/v1/operations/{id}", "operation", "An operation", calls.operation, OperationBody,
        parameters=OperationPath, raises=_ASKS_FOR,
    ),
    Route(
        "GET", "/v1/operations/{id}/events", "follow", "Its progress; ends after its final state", calls.follow, None,
        parameters=OperationPath, raises=_ASKS_FOR, streams=True,
    ),
    Route(
        "POST", "/v1/operations/{id}/cancel", "cancel", "Stop an operation",
        calls.cancel, OperationBody, Caller.STARTED, parameters=OperationPath, raises=_ASKS_FOR,
    ),
    Route(
        "PUT", "/v1/pins", "pin", "Keep a checkpoint hot whatever the policy says, or no longer",
        calls.pin, CheckpointBody, Caller.STEERS, body=PinRequest, raises=_WORKS,
    ),
    Route(
        "GET", "/v1/tags", "tags", "Names that were given to steps, by run and name",
        calls.tags, list[TagBody], query=OptionalRunQuery, raises=_ASKS_FOR,
    ),
    Route(
        "PUT", "/v1/tags", "set_tag", "Give a checkpoint a name, which then stands for its step and keeps it from being pruned",
        calls.set_tag, TagBody, Caller.STEERS, body=TagRequest, raises=_WORKS,
    ),
    Route(
        "DELETE", "/v1/tags", "delete_tag", "Take a name back; an absent one is fine",
        calls.delete_tag, None, Caller.STEERS, query=TagQuery, status=204, raises=_WORKS,
    ),
    Route(
        "GET", "/v1/jobs", "jobs", "Runs that a user's jobs wrote here, the last written first; others' for administrators only",
        calls.jobs, list[JobBody], query=JobsQuery,
    ),
    Route(
        "POST", "/v1/jobs/{id}/end", "job_ended", "Record what of a job's runs is durable, as the event slurm.epilog",
        calls.job_ended, list[RunBody], Caller.ADMINISTRATOR, parameters=JobPath, body=JobEndRequest,
    ),
    Route(
        "GET", "/v1/diff", "diff", "Which files of two checkpoints differ, and in how many bytes",
        calls.diff, DiffBody, Caller.SEES, query=DiffQuery, raises=_ASKS_FOR,
    ),
    Route(
        "GET", "/v1/policies", "policies", "What was set, the most specific pattern last",
        calls.policies, list[PolicyBody], query=VolumeQuery, raises=_ASKS_FOR,
    ),
    Route(
        "GET", "/v1/policies/effective", "effective_policy", "What holds for a run, and where each value came from",
        calls.effective_policy, EffectivePolicyBody, Caller.SEES, query=RunQuery, raises=_ASKS_FOR,
    ),
    Route(
        "PUT", "/v1/policies", "set_policy", "Set keys of a pattern; the others stay",
        calls.set_policy, PolicyBody, Caller.STEERS, body=PolicyRequest, raises=_ASKS_FOR,
    ),
    Route(
        "POST", "/v1/policies/preview", "preview_policy", "What setting keys of a pattern would let go, and free",
        calls.preview_policy, PolicyPreviewBody, Caller.SEES, body=PolicyRequest, raises=_ASKS_FOR,
    ),
    Route(
        "DELETE", "/v1/policies", "unset_policy", "Forget a pattern",
        calls.unset_policy, None, Caller.STEERS, query=PatternQuery, status=204, raises=_ASKS_FOR,
    ),
    Route(
        "GET", "/v1/events", "events", "What happened, newest last; `follow` makes it a stream of what is to come",
        calls.events, list[EventBody], query=EventsQuery, streams=True,
    ),
    Route(
        "POST", "/v1/shutdown", "shutdown", "Flush, then stop; the daemon goes on when the flush does not succeed",
        calls.shutdown, ShutdownBody, Caller.ADMINISTRATOR, body=ShutdownRequest, status=202, raises=_WORKS,
    ),
    Route(
        "POST", "/v1/upgrade", "upgrade", "Go on with the code that is installed now", calls.upgrade, UpgradeBody,
        Caller.ADMINISTRATOR, status=202, raises=_WORKS,
    ),
    Route("GET", "/metrics", "metrics", "Prometheus text format", calls.metrics, bytes),
)  # fmt: skip
