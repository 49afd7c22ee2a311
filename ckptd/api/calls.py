"""What each route does with the node: a few lines each, named after the command that needs it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ckptd
from ckptd.api.node import Node
from ckptd.api.requests import (
    AccountQuery,
    AnyStart,
    DiffQuery,
    EventsQuery,
    JobEndRequest,
    JobsQuery,
    NoQuery,
    OptionalRunQuery,
    PatternQuery,
    PinRequest,
    PolicyRequest,
    RunQuery,
    ShutdownRequest,
    TagQuery,
    TagRequest,
    VolumeQuery,
)
from ckptd.api.schemas import EventBody, HealthBody, OperationBody
from ckptd.api.sse import Message, Stream
from ckptd.domain.access import Identity
from ckptd.domain.history import RunAccount
from ckptd.domain.launch import JobRun
from ckptd.domain.model import (
    CheckpointReport,
    DiffReport,
    EffectivePolicy,
    EventRecord,
    NodeReport,
    Operation,
    OperationKind,
    PolicyPreview,
    PolicyRow,
    RunReport,
    ShutdownReport,
    TagReport,
    UpgradeReport,
)

Query = TypeVar("Query")
Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Call(Generic[Query, Content]):
    """One request, validated. The node that comes with it is guarded: it does what this caller may do."""

    caller: Identity
    path: dict[str, Any]
    query: Query
    body: Content
    last_event_id: int | None


Plain = Call[NoQuery, None]


async def health(_node: Node, _call: Plain) -> HealthBody:
    return HealthBody(ok=True, version=ckptd.__version__, pid=os.getpid())


async def status(node: Node, _call: Plain) -> NodeReport:
    return await node.report()


async def runs(node: Node, call: Call[VolumeQuery, None]) -> list[RunReport]:
    return await node.runs(call.query.volume)


async def checkpoints(node: Node, call: Call[VolumeQuery, None]) -> list[CheckpointReport]:
    return await node.checkpoints(call.query.volume, call.path["run"])


async def latest(node: Node, call: Call[VolumeQuery, None]) -> CheckpointReport:
    return await node.latest(call.query.volume, call.path["run"])


async def account(node: Node, call: Call[AccountQuery, None]) -> RunAccount:
    return await node.account(call.query.volume, call.path["run"], call.query.gpus, call.query.mtbf)


async def start(node: Node, call: Call[NoQuery, AnyStart]) -> Operation:
    wanted = call.body
    # The validator turned the text into a CheckpointId; the annotation says what comes in over the wire.
    target: Any = wanted.target
    arguments = wanted.arguments.texts()
    return await node.start(OperationKind(wanted.kind), wanted.volume, target, arguments, by=call.caller)


async def operations(node: Node, _call: Plain) -> list[Operation]:
    return await node.operations()


async def operation(node: Node, call: Plain) -> Operation:
    return await node.operation(call.path["id"])


async def cancel(node: Node, call: Plain) -> Operation:
    return await node.cancel(call.path["id"])


async def follow(node: Node, call: Plain) -> Stream:
    """The first state is awaited before the answer begins, so that an unknown operation is a plain 404."""
    states = node.follow(call.path["id"])
    first = await anext(states)

    async def messages() -> AsyncIterator[Message]:
        yield _operation_message(first)
        async for state in states:
            yield _operation_message(state)

    return Stream(messages())


def _operation_message(state: Operation) -> Message:
    return Message("operation", OperationBody.model_validate(state).model_dump_json())


async def pin(node: Node, call: Call[NoQuery, PinRequest]) -> CheckpointReport:
    target: Any = call.body.target  # a CheckpointId, as in `start`
    return await node.pin(call.body.volume, target, call.body.on, by=call.caller, temporary=call.body.temporary)


async def tags(node: Node, call: Call[OptionalRunQuery, None]) -> list[TagReport]:
    return await node.tags(call.query.volume, call.query.run)


async def set_tag(node: Node, call: Call[NoQuery, TagRequest]) -> TagReport:
    target: Any = call.body.target  # a CheckpointId, as in `start`
    return await node.set_tag(call.body.volume, target, call.body.name, by=call.caller)


async def delete_tag(node: Node, call: Call[TagQuery, None]) -> None:
    await node.delete_tag(call.query.volume, call.query.run, call.query.name)


async def jobs(node: Node, call: Call[JobsQuery, None]) -> list[JobRun]:
    uid = call.caller.uid if call.query.uid is None else call.query.uid
    return await node.jobs(uid, call.query.everywhere)


async def job_ended(node: Node, call: Call[NoQuery, JobEndRequest]) -> list[RunReport]:
    runs = [(one.volume, one.run) for one in call.body.runs]
    return await node.job_ended(call.path["id"], call.body.uid, runs)


async def diff(node: Node, call: Call[DiffQuery, None]) -> DiffReport:
    one: Any = call.query.one  # CheckpointIds, as in `start`
    other: Any = call.query.other
    return await node.diff(call.query.volume, one, other)


async def policies(node: Node, call: Call[VolumeQuery, None]) -> list[PolicyRow]:
    return await node.policies(call.query.volume)


async def effective_policy(node: Node, call: Call[RunQuery, None]) -> EffectivePolicy:
    return await node.effective_policy(call.query.volume, call.query.run)


async def set_policy(node: Node, call: Call[NoQuery, PolicyRequest]) -> PolicyRow:
    return await node.set_policy(call.body.volume, call.body.pattern, call.body.texts(), by=call.caller)


async def preview_policy(node: Node, call: Call[NoQuery, PolicyRequest]) -> PolicyPreview:
    return await node.preview_policy(call.body.volume, call.body.pattern, call.body.texts())


async def unset_policy(node: Node, call: Call[PatternQuery, None]) -> None:
    await node.unset_policy(call.query.volume, call.query.pattern)


async def events(node: Node, call: Call[EventsQuery, None]) -> list[EventRecord] | Stream:
    if not call.query.follow:
        return await node.events(call.query.after, call.query.limit)
    after = call.query.after if call.last_event_id is None else call.last_event_id
    return Stream(_event_messages(node, after))


async def _event_messages(node: Node, after: int) -> AsyncIterator[Message]:
    async for record in node.follow_events(after):
        yield Message("event", EventBody.model_validate(record).model_dump_json(), record.id)


async def shutdown(node: Node, call: Call[NoQuery, ShutdownRequest]) -> ShutdownReport:
    return await node.shutdown(call.body.flush, call.body.timeout, call.body.evict, call.body.force)


async def upgrade(node: Node, _call: Plain) -> UpgradeReport:
    return await node.upgrade()


async def metrics(node: Node, _call: Plain) -> bytes:
    return await node.metrics()
