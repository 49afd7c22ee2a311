"""A node in memory that behaves as the engine must: it validates what it is asked and can say no.

Operations end at once unless `hold` is set; then the test moves them with `advance` and `finish` (from any thread).
`run_server` serves it on a real socket from a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from ckptd.api import server
from ckptd.api.peers import Authorise, peer_of
from ckptd.domain.access import Identity, Owned, Whose
from ckptd.domain.errors import CkptdError, IntegrityError, NotKnown, OnlyCopy, UsageError
from ckptd.domain.history import Probe, Resume, RunAccount, Save
from ckptd.domain.launch import Job, JobRun
from ckptd.domain.model import (
    RESTORABLE,
    CheckpointPreview,
    CheckpointReport,
    CheckpointState,
    DiffReport,
    EffectivePolicy,
    EventRecord,
    Exposure,
    FileDifference,
    NodeReport,
    Operation,
    OperationKind,
    OperationState,
    Place,
    PolicyPreview,
    PolicyRow,
    RunPreview,
    RunReport,
    ShutdownReport,
    TagReport,
    TierReport,
    TransferReport,
    UpgradeReport,
    VolumeReport,
)
from ckptd.domain.names import CheckpointId
from ckptd.policy.accounting import account

NOON = 1_795_341_600.0  # 2026-11-22T10:00:00Z
MIB = 1024 * 1024
POLICY_KEYS = {
    "keep_hot": "2",
    "keep_nvme": "4",
    "keep_remote": "0",
    "keep_every": "0",
    "sync": "all",
    "settle": "2s",
    "nodes": "0",
    "fsync": "local",
}


def checkpoint(run: str, step: int, state: CheckpointState = CheckpointState.COMMITTED, **changes) -> CheckpointReport:
    durable = MIB if state is CheckpointState.COMMITTED else 0
    report = CheckpointReport(
        volume="ckpt", run=run, step=step, state=state, framework="torch-dcp", files=9, bytes=MIB, hot_bytes=MIB,
        durable_bytes=durable, tiers=("ram",), pinned=False, path=f"/ckpt/{run}/checkpoint-{step}",
        written_at=NOON + step, committed_at=NOON + step + 12 if state is CheckpointState.COMMITTED else None,
    )  # fmt: skip
    return dataclasses.replace(report, **changes)


class ScriptedNode:
    def __init__(self) -> None:
        self.held = {
            (c.run, c.step): c
            for c in (
                checkpoint("run-42", 1000, hot_bytes=0, tiers=()),
                checkpoint("run-42", 1100, CheckpointState.TORN, reason="model-2.safetensors was never closed"),
                checkpoint("run-42", 1200),
                checkpoint("cold", 7, hot_bytes=0, tiers=()),
                checkpoint("fresh", 5, CheckpointState.WRITING),
            )
        }
        self.ops: dict[int, Operation] = {}
        self.rows: dict[str, dict[str, str]] = {}
        self.tagged: dict[tuple[str, str], TagReport] = {}
        self.remote_away = False
        self.unchecked = 0
        """Files without a checksum, until they are taken."""
        self.records = [
            EventRecord(1, NOON, "info", "checkpoint.committed", "run-42@1200 is committed", {"run": "run-42"}),
            EventRecord(2, NOON + 1, "warning", "tier.pressure", "the RAM tier shrinks", {}),
        ]
        self.volumes = (
            VolumeReport("ckpt", "/ckpt", "s3://bucket/prefix", "watch", False, "", True, "", None, 3, 5),
        )  # fmt: skip
        self.owners = {run: Owned(os.geteuid(), os.getegid(), 0o755) for run, _ in self.held}
        """Of each run's directory."""
        self.exposure = Exposure(0, 0, None)
        self.saves = [
            Save("ckpt", "run-42", step, NOON + step - 2.0, NOON + step, 1024 * MIB, NOON + step + 12, 256 * MIB)
            for step in (1000, 1100, 1200)
        ]
        self.resumes = [
            Resume("ckpt", "run-42", 1200, NOON, NOON + 4.0, 1024 * MIB, 1024 * MIB, Place.REMOTE, "prefetch")
        ]
        self.probe: Probe | None = Probe("ckpt", NOON - 3600, 64 * MIB, 0.64, 0.32)
        self.hold = False
        self.refusals: dict[str, CkptdError] = {}
        self.ends_with: tuple[OperationState, str | None, str | None] = (OperationState.DONE, None, None)
        self.stopped = threading.Event()
        self.calls: list[tuple] = []
        self.changed = asyncio.Condition()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.followers = 0
        """How many streams of operations were begun."""
        self.serving = threading.Event()
        self.supervisor_pid = 0
        self.state_dir = "/nowhere/state"

    # What the test does, from its own thread.

    def advance(self, operation: int, bytes_done: int) -> None:
        self._change(operation, bytes_done=bytes_done)

    def finish(self, operation: int, state: OperationState = OperationState.DONE, **changes) -> None:
        total = self.ops[operation].bytes_total
        done = {"bytes_done": total} if state is OperationState.DONE else {}
        self._change(operation, state=state, finished_at=time.time(), **done, **changes)

    def happen(self, level: str, event: str, message: str) -> None:
        async def add() -> None:
            self.records.append(EventRecord(len(self.records) + 1, time.time(), level, event, message, {}))
            await self._tell()

        asyncio.run_coroutine_threadsafe(add(), self.loop).result(10)

    def _change(self, operation: int, **changes) -> None:
        async def change() -> None:
            self.ops[operation] = dataclasses.replace(self.ops[operation], **changes)
            await self._tell()

        asyncio.run_coroutine_threadsafe(change(), self.loop).result(10)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    # The Node.

    def _volume(self, volume: str | None) -> None:
        if volume is not None and volume not in {known.name for known in self.volumes}:
            raise NotKnown(f"no volume is called '{volume}'", hint="served: ckpt")
        if volume is None and len(self.volumes) > 1:
            names = ", ".join(known.name for known in self.volumes)
            raise UsageError(f"several volumes are served: {names}", hint="say which: --volume NAME")

    def _of(self, run: str) -> list[CheckpointReport]:
        found = [c for c in self.held.values() if c.run == run]
        if not found:
            raise NotKnown(f"no run is called '{run}'", hint="see: ckptctl ls")
        return sorted(found, key=lambda c: -c.step)

    def _step_of(self, target: CheckpointId) -> CheckpointId:
        if target.tag is None:
            return target
        tag = self.tagged.get((target.run, target.tag))
        if tag is None:
            raise NotKnown(f"run '{target.run}' has no tag '{target.tag}'", hint="see: ckptctl tags")
        return CheckpointId(target.run, tag.step)

    def _one(self, target: CheckpointId) -> CheckpointReport:
        target = self._step_of(target)
        if target.step is None:
            for found in self._of(target.run):
                if found.state in RESTORABLE:
                    return found
            raise NotKnown(f"'{target.run}' has no restorable checkpoint yet")
        for found in self._of(target.run):
            if found.step == target.step:
                if found.state is CheckpointState.TORN:
                    raise IntegrityError(f"{target} is torn: {found.reason}", hint="take another step")
                return found
        raise NotKnown(f"'{target.run}' has no step {target.step}", hint=f"see: ckptctl ls {target.run}")

    async def whose(
        self, volume: str | None, run: str | None = None, *, afresh: bool = False
    ) -> dict[tuple[str, str], Whose]:
        found = {("ckpt", name): Whose(None, (owner,)) for name, owner in self.owners.items()}
        return {key: whose for key, whose in found.items() if run in (None, key[1])}

    async def report(self) -> NodeReport:
        return NodeReport(
            version="0.1.0", node="gpu-017", pid=os.getpid(), uptime_s=8123.4, restarts=0, volumes=self.volumes,
            tiers=(TierReport("ram", "/dev/shm/x", 4096 * MIB, 4096 * MIB, 1024 * MIB, 0, False),),
            exposure=self.exposure, transfers=TransferReport(0.0, 0.0, 0),
            operations=tuple(op for op in self.ops.values() if op.state is OperationState.RUNNING),
            trouble=tuple(r for r in self.records if r.level != "info"),
            supervisor_pid=self.supervisor_pid, state_dir=self.state_dir,
        )  # fmt: skip

    async def runs(self, volume: str | None) -> list[RunReport]:
        if volume is not None:
            self._volume(volume)
        reports = []
        for name in sorted({run for run, _ in self.held}):
            found = self._of(name)
            committed = sum(c.state is CheckpointState.COMMITTED for c in found)
            hot, durable = sum(c.hot_bytes for c in found), sum(c.durable_bytes for c in found)
            total = sum(c.bytes for c in found)
            reports.append(
                RunReport(
                    "ckpt", name, len(found), committed, found[0].step, found[0].state, total, hot, durable,
                    next((c.step for c in found if c.state in RESTORABLE), None), self.exposure,
                )
            )  # fmt: skip
        return reports

    async def checkpoints(self, volume: str | None, run: str) -> list[CheckpointReport]:
        self._volume(volume)
        return self._of(run)

    async def latest(self, volume: str | None, run: str) -> CheckpointReport:
        self._volume(volume)
        return self._one(CheckpointId(run))

    async def account(self, volume: str | None, run: str, gpus: int | None, mtbf_s: float) -> RunAccount:
        self._volume(volume)
        self._of(run)
        return account("ckpt", run, "gpu-017", self.saves, self.resumes, self.probe, mtbf_s=mtbf_s, gpus=gpus)

    async def start(
        self, kind: OperationKind, volume: str | None, target: CheckpointId | None, arguments: Mapping[str, str],
        *, by: Identity,
    ) -> Operation:  # fmt: skip
        target = self._step_of(target) if target else None
        self.calls.append((kind.value, volume, str(target) if target else None, dict(arguments)))
        if kind.value in self.refusals:
            raise self.refusals[kind.value]
        if target is not None or volume is not None:
            self._volume(volume)
        found = None
        if target is not None:
            found = self._one(target) if kind is not OperationKind.REMOVE or target.step else self._of(target.run)[0]
        if kind is OperationKind.EVICT and found and not found.durable_bytes and "force" not in arguments:
            raise OnlyCopy(f"{target} has no durable copy", hint="--force loses it")
        total = found.bytes if found else 0
        name = "everything"
        if found and target:
            name = str(target if target.step is not None else CheckpointId(target.run, found.step))
        return self._begin(kind, name, total, dict(arguments), found.path if found else None, by.uid)

    def _begin(
        self, kind: OperationKind, target: str, total: int, arguments: dict[str, str], result: str | None,
        uid: int | None = None,
    ):  # fmt: skip
        identifier, now = len(self.ops) + 1, time.time()
        operation = Operation(
            identifier,
            kind,
            target,
            "ckpt",
            OperationState.RUNNING,
            total,
            0,
            now,
            arguments=arguments,
            result=result,
            uid=uid,
        )
        if not self.hold:
            state, error, code = self.ends_with
            done = total if state is OperationState.DONE else 0
            operation = dataclasses.replace(
                operation, state=state, bytes_done=done, finished_at=now + 0.25, error=error, error_code=code
            )
        self.ops[identifier] = operation
        return operation

    async def operation(self, operation: int) -> Operation:
        if operation not in self.ops:
            raise NotKnown(f"no operation has the id {operation}", hint="see: ckptctl ops")
        return self.ops[operation]

    async def operations(self) -> list[Operation]:
        return list(self.ops.values())

    async def cancel(self, operation: int) -> Operation:
        found = await self.operation(operation)
        if found.state is OperationState.RUNNING:
            found = dataclasses.replace(found, state=OperationState.CANCELLED, finished_at=time.time())
            self.ops[operation] = found
            await self._tell()
        return found

    async def follow(self, operation: int) -> AsyncIterator[Operation]:
        seen = await self.operation(operation)
        self.followers += 1
        yield seen
        while seen.state is OperationState.RUNNING:
            async with self.changed:
                await self.changed.wait_for(lambda last=seen: self.ops[operation] != last)
            seen = self.ops[operation]
            yield seen

    async def pin(
        self, volume: str | None, target: CheckpointId, on: bool, *, by: Identity, temporary: bool = False
    ) -> CheckpointReport:
        self._volume(volume)
        found = dataclasses.replace(self._one(target), pinned=on)
        self.held[found.run, found.step] = found
        return found

    async def tags(self, volume: str | None, run: str | None) -> list[TagReport]:
        if run is not None:
            self._of(run)
        return [tag for (of, _), tag in sorted(self.tagged.items()) if run in (None, of)]

    async def set_tag(self, volume: str | None, target: CheckpointId, name: str, *, by: Identity) -> TagReport:
        self._volume(volume)
        found = self._one(target)
        tag = TagReport("ckpt", found.run, name, found.step, "gpu-017", NOON, not self.remote_away)
        self.tagged[found.run, name] = tag
        self._show_tags(found.run)
        return tag

    async def delete_tag(self, volume: str | None, run: str, name: str) -> None:
        self._volume(volume)
        self.tagged.pop((run, name), None)
        self._show_tags(run)

    def _show_tags(self, run: str) -> None:
        for found in self._of(run):
            names = tuple(tag.name for (of, _), tag in self.tagged.items() if of == run and tag.step == found.step)
            self.held[found.run, found.step] = dataclasses.replace(found, tags=names)

    async def diff(self, volume: str | None, one: CheckpointId, other: CheckpointId) -> DiffReport:
        self._volume(volume)
        names = [f"{found.run}@{found.step}" for found in (self._one(one), self._one(other))]
        unchecked = 0 if any(op.kind is OperationKind.CHECKSUM for op in self.ops.values()) else self.unchecked
        files = (
            FileDifference("checkpoint-{n}/model.pt", "differs", 4 * MIB, 4 * MIB, 3 * MIB, MIB),
            FileDifference("checkpoint-{n}/config.json", "equal", 10, 10, 10, 0),
            FileDifference("checkpoint-{n}/new.pt", "only-other", 0, MIB, 0, 0),
        )
        return DiffReport("ckpt", *names, files, 3 * MIB + 10, MIB, 0, MIB, unchecked)

    async def policies(self, volume: str | None) -> list[PolicyRow]:
        self._volume(volume)
        return [PolicyRow("ckpt", pattern, values) for pattern, values in sorted(self.rows.items())]

    async def effective_policy(self, volume: str | None, run: str) -> EffectivePolicy:
        self._volume(volume)
        values, sources = dict(POLICY_KEYS), dict.fromkeys(POLICY_KEYS, "default")
        for pattern, row in self.rows.items():
            values |= row
            sources |= dict.fromkeys(row, pattern)
        return EffectivePolicy("ckpt", run, values, sources)

    async def set_policy(
        self, volume: str | None, pattern: str, values: Mapping[str, str], *, by: Identity
    ) -> PolicyRow:
        self._volume(volume)
        unknown = set(values) - set(POLICY_KEYS)
        if unknown:
            raise UsageError(f"no such policy key: {min(unknown)}", hint=f"keys: {', '.join(POLICY_KEYS)}")
        self.rows[pattern] = self.rows.get(pattern, {}) | dict(values)
        return PolicyRow("ckpt", pattern, self.rows[pattern])

    async def preview_policy(self, volume: str | None, pattern: str, values: Mapping[str, str]) -> PolicyPreview:
        self._volume(volume)
        gone = (
            CheckpointPreview(1000, ("prune",), {"ram": 0, "remote": MIB}),
            CheckpointPreview(1200, ("demote",), {"ram": MIB, "nvme": -MIB, "remote": 0}),
        )
        found = (RunPreview("run-42", gone),) if fnmatchcase("run-42", pattern) else ()
        return PolicyPreview("ckpt", pattern, self.rows.get(pattern, {}) | dict(values), found)

    async def unset_policy(self, volume: str | None, pattern: str) -> None:
        self._volume(volume)
        if self.rows.pop(pattern, None) is None:
            raise NotKnown(f"no policy is set for '{pattern}'", hint="see: ckptctl policy show")

    async def jobs(self, uid: int, everywhere: bool) -> list[JobRun]:
        return [JobRun("ckpt", "run-42", Job(123, uid, "train"), NOON)]

    async def job_ended(self, job: int, uid: int, runs: Sequence[tuple[str, str]]) -> list[RunReport]:
        self.calls.append(("job_ended", job, uid, list(runs)))
        return [one for one in await self.runs(None) if (one.volume, one.run) in runs]

    async def events(self, after: int, limit: int) -> list[EventRecord]:
        return [record for record in self.records if record.id > after][-limit:]

    async def follow_events(self, after: int) -> AsyncIterator[EventRecord]:
        while True:
            for record in [record for record in self.records if record.id > after]:
                after = record.id
                yield record
            async with self.changed:
                await self.changed.wait_for(lambda seen=after: self.records[-1].id > seen)

    async def shutdown(self, flush: bool, timeout: float | None, evict: bool, force: bool) -> ShutdownReport:
        self.calls.append(("shutdown", flush, timeout, evict, force))
        if not flush:
            self.stopped.set()
            return ShutdownReport(self.exposure, None)
        operation = self._begin(OperationKind.FLUSH, "everything", self.exposure.bytes, {}, None)
        if operation.state is OperationState.DONE:
            self.stopped.set()
        return ShutdownReport(self.exposure, operation)

    async def upgrade(self) -> UpgradeReport:
        self.calls.append(("upgrade",))
        return UpgradeReport("0.1", "0.2", True)

    async def metrics(self) -> bytes:
        return b"# TYPE ckptd_exposed_bytes gauge\nckptd_exposed_bytes 0\n"


def listen(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(16)
    return listening


@contextlib.contextmanager
def run_server(
    node: ScriptedNode, listening: socket.socket, authorise: Authorise = peer_of
) -> Iterator[None]:  # fmt: skip
    """Serves from a thread until the block ends; the socket is closed then."""
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        node.loop, node.changed = loop, asyncio.Condition()
        served = await server.serve(server.application(node, authorise, heartbeat_s=0.2), listening)
        started.set()
        node.serving.set()
        await stop.wait()
        await served.end()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    try:
        assert started.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()
        loop.close()
