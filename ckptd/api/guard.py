"""What a caller may see and do of a node: one guard before all of it, so that no route can forget to ask.

An administrator does everything. Everybody else sees the runs whose directory he may read, and steers those whose directory he
may write (`domain.access`). A run that he may not see is answered for in the very words and after the very looks with which a
run is answered for that does not exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from ckptd.api.node import Node, RunKey
from ckptd.domain.access import NONE, Identity, Rights, Whose, rights
from ckptd.domain.errors import NotAllowed, NotKnown, UsageError
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
from ckptd.domain.names import CheckpointId
from ckptd.layouts import locate

_LOOKS = frozenset({OperationKind.VERIFY, OperationKind.CHECKSUM})
"""Operations for whoever sees a run."""
_STEERS = frozenset({
    OperationKind.PREFETCH, OperationKind.FLUSH, OperationKind.EVICT, OperationKind.REMOVE, OperationKind.SCRUB,
})  # fmt: skip
"""… and for whoever steers it. The others write anywhere with the daemon's rights (restore): administrators only."""

_OF_THE_NODE = frozenset({
    "daemon.ready", "daemon.stopped", "daemon.upgrade", "worker.restarted", "remote.back", "tier.pressure", "tier.lost",
})  # fmt: skip
"""Events that name no run, and no key in their message."""
_ALL_EVENTS = 10_000
"""As many as are kept, at least."""
_WILD = frozenset("*?[")
_ONLY_ADMINISTRATORS = "administrators do: root, the daemon's own user, members of [access] admin_group"


def guarded(node: Node, caller: Identity) -> Node:
    return node if caller.administrator else Guarded(node, caller)


class Guarded:
    """Of one request of one caller who is no administrator."""

    def __init__(self, node: Node, caller: Identity) -> None:
        self._node = node
        self._caller = caller

    # -- what the caller may

    async def _rights(self, volume: str | None, run: str, *, afresh: bool = True) -> tuple[Rights, Whose]:
        """By what the remote says now: a directory that a user has just made has no say in a run of another node that is not
        known here yet.
        """
        found = await self._node.whose(volume, run, afresh=afresh)
        whose = next(iter(found.values()), Whose())
        return rights(self._caller, whose), whose

    async def _must_see(self, volume: str | None, run: str) -> None:
        may, _ = await self._rights(volume, run)
        if not may.see:
            raise _no_run(run)

    async def _must_steer(self, volume: str | None, run: str, what: str) -> None:
        may, whose = await self._rights(volume, run)
        if not may.see:
            raise _no_run(run)
        if not may.steer:
            owner = next((one.uid for one in whose.owners if one.uid != self._caller.uid), self._caller.uid)
            raise NotAllowed(
                f"user {self._caller.uid} may not {what} run '{run}': it belongs to user {owner}",
                hint="who may write in its directory may; on every node where it has one, and as the remote records it",
            )

    def _refuse(self, what: str) -> NotAllowed:
        return NotAllowed(f"user {self._caller.uid} may not {what}", hint=_ONLY_ADMINISTRATORS)

    async def _sight(self) -> Mapping[RunKey, Rights]:
        """Of every run that is known."""
        return {key: rights(self._caller, whose) for key, whose in (await self._node.whose(None)).items()}

    # -- looking

    async def whose(
        self, volume: str | None, run: str | None = None, *, afresh: bool = False
    ) -> Mapping[RunKey, Whose]:
        found = await self._node.whose(volume, run, afresh=afresh)
        return {key: whose for key, whose in found.items() if rights(self._caller, whose).see}

    async def report(self) -> NodeReport:
        """The node's figures are everybody's; names and messages are of what the caller sees."""
        whole, sight = await self._node.report(), await self._sight()
        return replace(
            whole,
            volumes=tuple(
                replace(one, remote_error="" if one.remote_ok else "it does not answer, or refuses")
                for one in whole.volumes
            ),
            operations=tuple(one for one in whole.operations if self._sees_operation(one, sight)),
            trouble=tuple(one for one in whole.trouble if _sees_event(one, sight)),
        )

    async def runs(self, volume: str | None) -> list[RunReport]:
        found = await self._node.runs(volume)
        sight = await self._sight()
        return [one for one in found if sight.get((one.volume, one.run), NONE).see]

    async def checkpoints(self, volume: str | None, run: str) -> list[CheckpointReport]:
        await self._must_see(volume, run)
        return await self._node.checkpoints(volume, run)

    async def latest(self, volume: str | None, run: str) -> CheckpointReport:
        """`run` may be a checkpoint's name, where no run of that very name is known."""
        may, _ = await self._rights(volume, run)
        if not may.see and (named := CheckpointId.parse(run).run) != run:
            may, _ = await self._rights(volume, named)
        if not may.see:
            raise _no_run(run)
        found = await self._node.latest(volume, run)
        may, _ = await self._rights(volume, found.run, afresh=False)  # `latest` has looked
        if not may.see:  # another's run may be called like a checkpoint of ours
            raise _no_run(run)
        return found

    async def account(self, volume: str | None, run: str, gpus: int | None, mtbf_s: float) -> RunAccount:
        await self._must_see(volume, run)
        return await self._node.account(volume, run, gpus, mtbf_s)

    async def tags(self, volume: str | None, run: str | None) -> list[TagReport]:
        if run is not None and volume is not None:
            await self._must_see(volume, run)
        sight = await self._sight()
        if run is not None and not any(may.see for (_, its), may in sight.items() if its == run):
            raise _no_run(run)
        listed = await self._node.tags(volume, run)
        return [one for one in listed if sight.get((one.volume, one.run), NONE).see]

    async def diff(self, volume: str | None, one: CheckpointId, other: CheckpointId) -> DiffReport:
        for target in (one, other):
            await self._must_see(volume, target.run)
        return await self._node.diff(volume, one, other)

    async def policies(self, volume: str | None) -> list[PolicyRow]:
        """A pattern without wildcards is a run's name."""
        rows = await self._node.policies(volume)
        sight = await self._sight()
        return [row for row in rows if _is_wild(row.pattern) or sight.get((row.volume, row.pattern), NONE).see]

    async def effective_policy(self, volume: str | None, run: str) -> EffectivePolicy:
        await self._must_see(volume, run)
        return await self._node.effective_policy(volume, run)

    async def preview_policy(self, volume: str | None, pattern: str, values: Mapping[str, str]) -> PolicyPreview:
        await self._must_see(volume, self._run_of(pattern))
        return await self._node.preview_policy(volume, pattern, values)

    async def events(self, after: int, limit: int) -> list[EventRecord]:
        sight = await self._sight()
        found = [one for one in await self._node.events(after, _ALL_EVENTS) if _sees_event(one, sight)]
        return found[-limit:]

    async def follow_events(self, after: int) -> AsyncIterator[EventRecord]:
        async for record in self._node.follow_events(after):
            if _sees_event(record, await self._sight_of(record)):
                yield record

    async def _sight_of(self, record: EventRecord) -> Mapping[RunKey, Rights]:
        volume, run = record.fields.get("volume"), _run_of_event(record)
        if volume is None or run is None:
            return {}
        try:
            found = await self._node.whose(volume, run)
        except NotKnown:  # the volume is not served any more
            return {}
        return {key: rights(self._caller, whose) for key, whose in found.items()}

    async def metrics(self) -> bytes:
        """They count, and name no run."""
        return await self._node.metrics()

    async def jobs(self, uid: int, everywhere: bool) -> list[JobRun]:
        if uid != self._caller.uid:
            raise self._refuse("see another user's jobs")
        sight = await self._sight()
        return [row for row in await self._node.jobs(uid, everywhere) if sight.get((row.volume, row.run), NONE).see]

    # -- operations

    async def operations(self) -> list[Operation]:
        sight = await self._sight()
        return [one for one in await self._node.operations() if self._sees_operation(one, sight)]

    async def operation(self, operation: int) -> Operation:
        found = await self._known_operation(operation)
        if not self._sees_operation(found, await self._sight()):
            raise _no_operation(operation)
        return found

    async def _known_operation(self, operation: int) -> Operation:
        try:
            return await self._node.operation(operation)
        except NotKnown:
            raise _no_operation(operation) from None

    async def follow(self, operation: int) -> AsyncIterator[Operation]:
        await self.operation(operation)
        async for state in self._node.follow(operation):
            yield state

    async def cancel(self, operation: int) -> Operation:
        found = await self.operation(operation)
        if found.uid != self._caller.uid:
            raise NotAllowed(
                f"user {self._caller.uid} may not cancel what somebody else started", hint=_ONLY_ADMINISTRATORS
            )
        return await self._node.cancel(operation)

    def _sees_operation(self, operation: Operation, sight: Mapping[RunKey, Rights]) -> bool:
        if operation.uid == self._caller.uid:
            return True
        run = _run_of_target(operation.target)
        return run is not None and sight.get((operation.volume, run), NONE).see

    async def start(
        self, kind: OperationKind, volume: str | None, target: CheckpointId | None, arguments: Mapping[str, str],
        *, by: Identity,
    ) -> Operation:  # fmt: skip
        del by  # whoever it says: it is the caller
        if kind not in _LOOKS | _STEERS:
            raise self._refuse(kind)
        if target is None:
            raise NotAllowed(
                f"user {self._caller.uid} may not {kind} everything", hint=f"name a run: ckptctl {kind} RUN"
            )
        if kind in _LOOKS:
            await self._must_see(volume, target.run)
        else:
            await self._must_steer(volume, target.run, kind)
        return await self._node.start(kind, volume, target, arguments, by=self._caller)

    # -- steering

    async def pin(
        self, volume: str | None, target: CheckpointId, on: bool, *, by: Identity, temporary: bool = False
    ) -> CheckpointReport:
        del by
        await self._must_steer(volume, target.run, "pin or unpin")
        return await self._node.pin(volume, target, on, by=self._caller, temporary=temporary)

    async def set_tag(self, volume: str | None, target: CheckpointId, name: str, *, by: Identity) -> TagReport:
        del by
        await self._must_steer(volume, target.run, "tag")
        return await self._node.set_tag(volume, target, name, by=self._caller)

    async def delete_tag(self, volume: str | None, run: str, name: str) -> None:
        await self._must_steer(volume, run, "take a tag of")
        await self._node.delete_tag(volume, run, name)

    async def set_policy(
        self, volume: str | None, pattern: str, values: Mapping[str, str], *, by: Identity
    ) -> PolicyRow:
        del by
        await self._must_steer(volume, self._run_of(pattern), "set the policy of")
        return await self._node.set_policy(volume, pattern, values, by=self._caller)

    async def unset_policy(self, volume: str | None, pattern: str) -> None:
        await self._must_steer(volume, self._run_of(pattern), "unset the policy of")
        await self._node.unset_policy(volume, pattern)

    def _run_of(self, pattern: str) -> str:
        """Raises NotAllowed for a pattern that may match others' runs."""
        if _is_wild(pattern):
            raise NotAllowed(
                f"user {self._caller.uid} may not set a policy for '{pattern}'",
                hint="name one run of yours, without wildcards; administrators set patterns",
            )
        return pattern

    # -- the node itself

    async def shutdown(self, flush: bool, timeout: float | None, evict: bool, force: bool) -> ShutdownReport:
        del flush, timeout, evict, force
        raise self._refuse("stop the daemon")

    async def job_ended(self, job: int, uid: int, runs: Sequence[tuple[str, str]]) -> list[RunReport]:
        del job, uid, runs
        raise self._refuse("end a job")

    async def upgrade(self) -> UpgradeReport:
        raise self._refuse("upgrade the daemon")


def _no_run(run: str) -> NotKnown:
    return NotKnown(f"there is no run '{run}'", hint="see: ckptctl ls")


def _no_operation(operation: int) -> NotKnown:
    return NotKnown(f"there is no operation {operation}", hint="see: ckptctl ops")


def _is_wild(pattern: str) -> bool:
    return not _WILD.isdisjoint(pattern)


def _run_of_target(target: str) -> str | None:
    try:
        return CheckpointId.parse(target).run if target else None
    except UsageError:
        return None


def _run_of_event(record: EventRecord) -> str | None:
    fields = record.fields
    return fields.get("run") or (locate(fields["path"]).run if "path" in fields else None)


def _sees_event(record: EventRecord, sight: Mapping[RunKey, Rights]) -> bool:
    run = _run_of_event(record)
    if run is None:
        return record.event in _OF_THE_NODE
    return sight.get((record.fields.get("volume", ""), run), NONE).see
